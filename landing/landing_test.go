package landing_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
)

const (
	mib      = 1 << 20
	tinySize = 16 * mib
)

// bootSector writes "guest answers" on the first serial line, again at each tick of
// the clock.
func bootSector() []byte {
	code := []byte{
		0xfc, 0x31, 0xc0, 0x8e, 0xd8, // cld; xor ax, ax; mov ds, ax
		0xba, 0xf8, 0x03, // mov dx, 3f8h
		0xbe, 0x20, 0x7c, // mov si, 7c20h
		0xac, 0x84, 0xc0, 0x74, 0x03, // lodsb; test al, al; jz +3
		0xee, 0xeb, 0xf8, // out dx, al; jmp -8
		0xfb, 0xf4, 0xeb, 0xf1, // sti; hlt; jmp -15
	}
	sector := make([]byte, 512)
	copy(sector, code)
	copy(sector[0x20:], "guest answers\r\n\x00")
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// export is a finished export of one VM, a raw image of 64 MiB that boots and a qcow2
// image, both mostly holes.
type export struct {
	t      *testing.T
	lv     *libvirttest.Server
	plan   landing.Plan
	xml    []byte
	pool   string // directory of the pool
	notes  landing.Notes
	warned []string
}

func newExport(t *testing.T, lv *libvirttest.Server, name string) *export {
	t.Helper()
	e := &export{t: t, lv: lv, pool: t.TempDir()}
	dir := t.TempDir()
	raw, qcow2 := filepath.Join(dir, name+"-disk-0.raw"), filepath.Join(dir, name+"-disk-1.qcow2")
	f, err := os.Create(raw)
	if err == nil {
		_, err = f.Write(bootSector())
		_, werr := f.WriteAt(make([]byte, 3*mib), 40*mib)
		err = errors.Join(err, werr, f.Truncate(64*mib), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
	guest := kvm.Guest{
		Name: name, MemoryMiB: 32, CPUs: 1, UUID: uuid.NewString(),
		Disks: []kvm.Disk{{Path: raw, Format: kvm.Raw, Bus: kvm.IDE}, {Path: qcow2, Format: kvm.QCOW2, Bus: kvm.SATA}},
		NICs:  []kvm.NIC{{MAC: "00:50:56:aa:bb:cc", Model: "vmxnet3", Network: "VM Network"}},
	}
	xml, _, err := kvm.Domain(guest, kvm.Options{NetworkMap: map[string]string{"VM Network": name}})
	if err != nil {
		t.Fatal(err)
	}
	e.xml = xml
	lv.Pool(name, e.pool)
	lv.Network(name)
	e.plan = landing.Plan{
		Target: landing.Target{URI: lv.URI(), Pool: name, Define: true},
		Domain: name, UUID: guest.UUID, Networks: []string{name},
		Images: []landing.Image{{Path: raw}, {Path: qcow2}},
	}
	return e
}

func qemuImg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// teller hears everything, and calls at for the bytes of an image.
func (e *export) teller(at func(done int64)) landing.Teller {
	return landing.Teller{
		Warn: func(text string) { e.warned = append(e.warned, text) },
		At: func(_ string, done, _ int64) {
			if at != nil {
				at(done)
			}
		},
		Wait: func(string) func() { return func() {} },
	}
}

// note keeps what is noted.
func (e *export) note(n landing.Notes) error {
	n.Volumes, n.Paths = slices.Clone(n.Volumes), slices.Clone(n.Paths)
	e.notes = n
	return nil
}

func (e *export) land() (job.Landed, error) {
	return landing.Land(e.t.Context(), e.plan, e.xml, e.note, e.teller(nil))
}

// must is land for what has to succeed.
func (e *export) must() job.Landed {
	e.t.Helper()
	landed, err := e.land()
	if err != nil {
		e.t.Fatalf("%v\n%s", err, e.lv.Log())
	}
	return landed
}

// same fails the test unless the images at paths hold what the exported ones do.
func (e *export) same(paths []string) {
	e.t.Helper()
	if len(paths) != len(e.plan.Images) {
		e.t.Fatalf("%d images are at %q", len(paths), paths)
	}
	for i, path := range paths {
		qemuImg(e.t, "compare", "-U", e.plan.Images[i].Path, path)
	}
}

// nothing fails the test unless libvirt is as it was before.
func (e *export) nothing() {
	e.t.Helper()
	if left, err := os.ReadDir(e.pool); err != nil || len(left) > 0 {
		e.t.Errorf("the pool has %v, %v", left, err)
	}
	if domains := e.lv.Virsh("list", "--all", "--name"); slices.Contains(strings.Fields(domains), e.plan.Domain) {
		e.t.Errorf("there is a domain %s", e.plan.Domain)
	}
	for _, image := range e.plan.Images {
		if _, err := os.Stat(image.Path); err != nil {
			e.t.Error(err)
		}
	}
}

// undo takes the landing back, and checks that nothing is left.
func (e *export) undo() {
	e.t.Helper()
	if _, done, err := landing.Undo(context.WithoutCancel(e.t.Context()), e.notes); done || err != nil {
		e.t.Errorf("undo: %t, %v", done, err)
	}
	e.nothing()
}

// They share a libvirtd, which takes seconds to start.
func TestLanding(t *testing.T) {
	t.Parallel()
	tiny := volumetest.Tiny(t, tinySize) // where libvirtd is to see it
	lv := libvirttest.Start(t)
	for name, test := range map[string]func(*testing.T, *libvirttest.Server){
		"images become volumes with the same holes, and the domain is defined with them": landsInPool,
		"a guest that is started is waited for, and never taken back":                    startsGuest,
		"what is in the way is said beforehand, and nothing is changed":                  refuses,
		"names that are taken get a suffix where that is asked for":                      takesSuffix,
		"images that are in the pool's directory are taken as they are":                  landsInPlace,
		"without a pool the images stay where they are":                                  landsWithoutPool,
		"whoever dies between two notes is undone from the last of them":                 diesAnywhere,
		"a copy that is cancelled is undone":                                             cancels,
		"what is not of the landing is never removed":                                    sparesOthers,
		"a pool that is full fails the landing with its reason":                          func(t *testing.T, lv *libvirttest.Server) { fillsPool(t, lv, tiny) },
		"every shape of a VM is taken by libvirt, and runs as far as its firmware":       keepsShapes,
		"a guest that does not shut down is switched off, and stays so":                  stopsDeafGuest,
		"a guest that shuts down is not switched off":                                    stopsGuestThatHears,
		"the guest that is stopped is the landed one":                                    knowsWhichGuest,
		"a guest that is not known to be off is said to run":                             cannotStop,
		"a guest answers by its agent":                                                   answersByAgent,
		"a guest answers by its lease":                                                   answersByLease,
		"a guest that does not answer in time runs on":                                   doesNotAnswer,
		"a guest that ends before it answers is told of":                                 endsBeforeItAnswers,
		"a guest of Windows 11 gets a TPM of its own, and runs with it":                  getsTPM,
		"the script of the landing kit lands the same with virsh":                        landsByScript,
		"the script of the landing kit leaves nothing when libvirt refuses":              scriptUndoes,
		"the test driver takes a domain and no images":                                   landsOnTestDriver,
	} {
		t.Run(name, func(t *testing.T) { test(t, lv) })
	}
}

func landsInPool(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "lands")
	landed := e.must()
	e.same(landed.Images)
	for i, path := range landed.Images {
		info, err := os.Stat(path)
		if err != nil || filepath.Dir(path) != e.pool || volume.Allocated(info) > 8*mib {
			t.Errorf("image %d: %v, %d bytes allocated", i, err, volume.Allocated(info))
		}
	}
	xml := lv.Virsh("dumpxml", "--inactive", "lands")
	for _, want := range []string{landed.Images[0], landed.Images[1], "00:50:56:aa:bb:cc", "<source network='lands'/>", landed.UUID, "type='qcow2'", "org.qemu.guest_agent.0", "type='isa-serial'"} {
		if !strings.Contains(xml, want) {
			t.Errorf("the domain lacks %s:\n%s", want, xml)
		}
	}
	if landed.UUID != e.plan.UUID || landed.Domain != "lands" || landed.Started {
		t.Errorf("landed %+v", landed)
	}
	if info := lv.Virsh("vol-dumpxml", "--pool", "lands", "lands-disk-1.qcow2"); !strings.Contains(info, "<format type='qcow2'/>") {
		t.Errorf("libvirt takes the volume for\n%s", info)
	}
	e.undo()
}

func startsGuest(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "starts")
	e.plan.Start = true
	landed := e.must()
	if !landed.Started || landed.Answered != "console: guest answers" {
		t.Errorf("landed %+v, warned %q", landed, e.warned)
	}
	again, done, err := landing.Undo(t.Context(), e.notes)
	if err != nil || !done || again.Domain != "starts" || lv.Virsh("domstate", "starts") != "running" {
		t.Errorf("undo of a guest that runs: %+v, %t, %v", again, done, err)
	}
	lv.Virsh("destroy", "starts")
	if _, done, err := landing.Undo(t.Context(), e.notes); err != nil || !done {
		t.Errorf("undo of a guest that has run: %t, %v", done, err)
	}
	e.same(landed.Images)
}

func refuses(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "refused")
	lv.Virsh("pool-define-as", "idle", "dir", "--target", t.TempDir())
	for name, test := range map[string]struct {
		change func(*landing.Plan)
		text   string
	}{
		"no such pool":        {func(p *landing.Plan) { p.Pool = "none" }, `no storage pool "none"`},
		"a pool that is off":  {func(p *landing.Plan) { p.Pool = "idle" }, "not active"},
		"no such network":     {func(p *landing.Plan) { p.Networks = []string{"none"} }, `no network "none"`},
		"an unmapped network": {func(p *landing.Plan) { p.Unmapped = []string{"VM Network"} }, "VM Network"},
		"too little space":    {func(p *landing.Plan) { p.AtLeast = 1 << 60 }, "free"},
		"another machine":     {func(p *landing.Plan) { p.URI = "qemu+ssh://host/system" }, "another machine"},
		"libvirt is away":     {func(p *landing.Plan) { p.URI = "qemu+unix:///system?socket=/nonexistent" }, "cannot be reached"},
	} {
		p := e.plan
		test.change(&p)
		problems := withoutKVM(landing.Problems(t.Context(), p))
		if len(problems) != 1 || !slices.ContainsFunc(problems, func(p landing.Problem) bool {
			return p.Fatal && strings.Contains(p.Text, test.text) && p.Hint != ""
		}) {
			t.Errorf("%s: %+v", name, problems)
		}
		if name == "too little space" { // now it is known
			continue
		}
		if _, err := landing.Land(t.Context(), p, e.xml, e.note, e.teller(nil)); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: the landing ends with %v", name, err)
		}
		e.nothing()
	}
	if problems := withoutKVM(landing.Problems(t.Context(), e.plan)); len(problems) > 0 {
		t.Errorf("of a good plan: %+v", problems)
	}
	e.must()
	first := e.notes
	other := newExport(t, lv, "refused-too")
	other.plan.Domain, other.plan.UUID = "refused", e.plan.UUID
	for _, plan := range []landing.Plan{e.plan, other.plan} {
		problems := withoutKVM(landing.Problems(t.Context(), plan))
		_, err := landing.Land(t.Context(), plan, e.xml, e.note, e.teller(nil))
		if len(problems) != 1 || !problems[0].Fatal || !strings.Contains(problems[0].Text, `the domain "refused"`) || err == nil {
			t.Errorf("names that are taken: %+v, %v", problems, err)
		}
	}
	e.notes = first
	e.undo()
}

// withoutKVM leaves out that there is no KVM, which is said of every plan.
func withoutKVM(problems []landing.Problem) []landing.Problem {
	return slices.DeleteFunc(problems, func(p landing.Problem) bool { return !p.Fatal && strings.Contains(p.Text, "KVM") })
}

func takesSuffix(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "suffixed")
	e.must()
	first := e.notes
	e.plan.OnCollision = job.CollisionSuffix
	landed := e.must()
	e.same(landed.Images)
	if landed.Domain != "suffixed-2" || landed.UUID == e.plan.UUID || filepath.Base(landed.Images[0]) != "suffixed-disk-0-2.raw" || len(e.warned) == 0 {
		t.Errorf("landed %+v, warned %q", landed, e.warned)
	}
	if _, _, err := landing.Undo(t.Context(), e.notes); err != nil {
		t.Error(err)
	}
	e.notes = first
	e.undo()
}

func landsInPlace(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "inplace")
	for i, image := range e.plan.Images {
		path := filepath.Join(e.pool, filepath.Base(image.Path))
		if err := os.Rename(image.Path, path); err != nil {
			t.Fatal(err)
		}
		e.plan.Images[i].Path = path
	}
	landed := e.must()
	if landed.Images[0] != e.plan.Images[0].Path || landed.Images[1] != e.plan.Images[1].Path || len(e.notes.Volumes) > 0 {
		t.Errorf("landed %+v", landed)
	}
	if _, _, err := landing.Undo(t.Context(), e.notes); err != nil {
		t.Error(err)
	}
	e.same(landed.Images)
}

func landsWithoutPool(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "nopool")
	e.plan.Pool = ""
	landed := e.must()
	if landed.Images[0] != e.plan.Images[0].Path || landed.Domain != "nopool" {
		t.Errorf("landed %+v", landed)
	}
	e.undo()
}

func diesAnywhere(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "dies")
	gone := errors.New("the process is gone")
	for at := 1; ; at++ {
		n := 0
		_, err := landing.Land(t.Context(), e.plan, e.xml, func(notes landing.Notes) error {
			if n++; n > at { // and what was noted before it has been done
				return gone
			}
			return e.note(notes)
		}, e.teller(nil))
		e.undo()
		if err == nil {
			if at < 5 {
				t.Errorf("there were only %d notes", at)
			}
			return
		}
		if !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
}

func cancels(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := landing.Land(ctx, e.plan, e.xml, e.note, e.teller(func(done int64) {
		if done > 0 {
			cancel(job.Cancelled{})
		}
	}))
	if !errors.As(err, new(job.Cancelled)) {
		t.Errorf("ends with %v", err)
	}
	e.undo()
}

func sparesOthers(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "spared")
	landed := e.must()
	mine := e.notes
	other := mine
	other.ID = uuid.NewString()
	other.Volumes = []landing.Volume{{Name: "spared-disk-0.raw"}} // which was not made by it
	if _, done, err := landing.Undo(t.Context(), other); done || err != nil {
		t.Errorf("undo: %t, %v", done, err)
	}
	e.same(landed.Images)
	if state := lv.Virsh("domstate", "spared"); state != "shut off" {
		t.Errorf("the domain is %s", state)
	}
	lv.Virsh("create", "--paused", write(t, strings.Replace(lv.Virsh("dumpxml", "spared"), "spared</name>", "spared</name>", 1)))
	if _, done, err := landing.Undo(t.Context(), mine); !done || err != nil {
		t.Errorf("undo of a domain that somebody has started: %t, %v", done, err)
	}
	e.same(landed.Images)
	lv.Virsh("destroy", "spared")
	e.notes = mine
	e.undo()
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func fillsPool(t *testing.T, lv *libvirttest.Server, tiny string) {
	e := newExport(t, lv, "full")
	e.pool = tiny
	lv.Virsh("pool-destroy", "full")
	lv.Pool("full", e.pool)
	fill := filepath.Join(e.pool, "of-others")
	_, err := landing.Land(t.Context(), e.plan, e.xml, e.note, e.teller(func(int64) { // after it was seen that there is room
		f, err := os.OpenFile(fill, os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.Write(make([]byte, 2*tinySize))
			_ = f.Close()
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("filling the pool: %v", err)
		}
	}))
	if err == nil || !strings.Contains(err.Error(), `the storage pool "full" is full`) || fault.Hint(err) == "" {
		t.Errorf("ends with %v", err)
	}
	if err := os.Remove(fill); err != nil {
		t.Error(err)
	}
	e.undo()
	e.plan.Images = slices.Repeat(e.plan.Images, 20)
	if _, err := e.land(); err == nil || !strings.Contains(err.Error(), "free, and the images take") {
		t.Errorf("with images that cannot fit it ends with %v", err)
	}
	e.nothing()
}

func landsOnTestDriver(t *testing.T, lv *libvirttest.Server) {
	e := newExport(t, lv, "driver")
	e.plan.URI, e.plan.Networks = lv.TestURI(), []string{"default"}
	if problems := landing.Problems(t.Context(), e.plan); len(problems) != 1 || !strings.Contains(problems[0].Text, "test driver") {
		t.Errorf("with a pool: %+v", problems)
	}
	e.plan.Pool, e.plan.Start = "", true
	landed := e.must()
	if !landed.Started || landed.Domain != "driver" {
		t.Errorf("landed %+v", landed)
	}
}

func TestALibvirtThatDiesInTheMidstOfACopyIsOwedUntilItIsBack(t *testing.T) {
	t.Parallel()
	lv := libvirttest.Start(t)
	e := newExport(t, lv, "killed")
	var once sync.Once
	_, err := landing.Land(t.Context(), e.plan, e.xml, e.note, e.teller(func(done int64) {
		if done > 0 {
			once.Do(lv.Kill)
		}
	}))
	if !errors.Is(err, landing.ErrAway) {
		t.Errorf("ends with %v", err)
	}
	if _, _, err := landing.Undo(t.Context(), e.notes); !errors.Is(err, landing.ErrAway) || fault.Hint(err) == "" {
		t.Errorf("undo without libvirt: %v", err)
	}
	lv.Restart()
	e.undo()
}
