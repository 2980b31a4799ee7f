package migrate_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// land lands the one export that is in a directory, without a vCenter.
func (b *bench) land(dir string, l job.Landing, networks map[string]string) (job.Result, string, error) {
	b.t.Helper()
	m := &migrate.Migrator{} // which has no Endpoint
	found, err := m.Exports(dir, "")
	if err != nil || len(found) != 1 {
		b.t.Fatalf("%+v, %v", found, err)
	}
	def := job.Definition{VMPath: found[0].VM, OutputPath: dir, Options: job.Options{Format: job.FormatRaw, Landing: l, NetworkMap: networks}}
	tr := progress.New()
	result, err := m.Land(b.t.Context(), def, found[0], tr)
	return result, events(tr), err
}

func TestAnExportThatIsHereIsLandedWithoutItsVCenter(t *testing.T) {
	t.Parallel()
	lv := libvirttest.Start(t)
	pool := t.TempDir()
	lv.Pool("images", pool)
	lv.Network("lan")
	lv.Network("other")
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", NICs: []vspheretest.NIC{{Network: "Prod"}, {Network: "Test"}}}}}, twoDisks(t)...)
	def := b.job(job.FormatQcow2)
	def.Options.NetworkMap = map[string]string{"Prod": "lan"}
	b.export(def)
	dir := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(b.out, dir); err != nil {
		t.Fatal(err)
	}
	asked := len(b.Requests(vspheretest.SOAP))
	failing := lv.Between(cutAt(libvirttest.DefineXMLFlags))
	define := job.Landing{Libvirt: lv.URI(), Pool: "images", Define: true}

	for name, c := range map[string]struct {
		landing  job.Landing
		networks map[string]string
		text     string
	}{
		"a port group without a network": {define, nil, "port groups Test"},
		"a network that no card is on":   {define, map[string]string{"dmz": "lan", "*": "lan"}, `no card on the network "dmz"`},
		"no such pool and no network":    {job.Landing{Libvirt: lv.URI(), Pool: "none", Define: true}, map[string]string{"*": "none"}, `no network "none"`},
		"libvirt is away":                {job.Landing{Libvirt: "qemu+unix:///system?socket=/nonexistent", Define: true}, nil, "cannot be reached"},
	} {
		if _, told, err := b.land(dir, c.landing, c.networks); !migrate.Permanent(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v\n%s", name, err, told)
		}
	}
	broken := define
	broken.Libvirt = failing
	if _, told, err := b.land(dir, broken, map[string]string{"*": "lan"}); !errors.Is(err, landing.ErrAway) {
		t.Errorf("libvirt goes away: %v\n%s", err, told)
	}
	if left, err := os.ReadDir(pool); err != nil || len(left) > 0 {
		t.Errorf("the pool has %v, %v", left, err)
	}

	result, told, err := b.land(dir, define, map[string]string{"default": "other"})
	if err != nil || result.Landed == nil || result.Landed.Domain != "guest1" || len(result.Landed.Images) != 2 {
		t.Fatalf("%+v, %v\n%s", result.Landed, err, told)
	}
	for i, path := range result.Landed.Images {
		qemuImg(t, "compare", "-U", "-f", "raw", "-F", "qcow2", b.raw[i], path)
	}
	xml := lv.Virsh("dumpxml", "--inactive", "guest1")
	if !strings.Contains(xml, "<source network='lan'/>") || !strings.Contains(xml, "<source network='other'/>") || strings.Contains(xml, dir) {
		t.Errorf("the domain is\n%s", xml)
	}
	again, told, err := b.land(dir, define, map[string]string{"default": "other"})
	if err != nil || !again.Earlier || again.Landed.UUID != result.Landed.UUID {
		t.Errorf("once more: %+v, %v\n%s", again, err, told)
	}
	if found, err := b.m.Exports(dir, "guest1"); err != nil || len(found) != 1 || !found[0].Guest() {
		t.Errorf("the way back knows %+v, %v", found, err)
	}
	if n := len(b.Requests(vspheretest.SOAP)); n != asked {
		t.Errorf("vCenter was asked %d times", n-asked)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".hyper2kvm-*")); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
	if err := os.Remove(filepath.Join(dir, "guest1-disk-1.qcow2")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.land(dir, job.Landing{Libvirt: lv.URI(), Pool: "images"}, nil); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("without one of its images: %v", err)
	}
}

func TestAPackageIsNotLanded(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	b.export(b.job(job.FormatOVF))
	if _, _, err := b.land(b.out, job.Landing{Libvirt: "test:///default", Define: true}, nil); err == nil || !strings.Contains(migrate.Hint(err), "hyper2kvm convert") {
		t.Errorf("%v", err)
	}
}
