package migrate_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// cutover is a VM that was stopped, exported, landed and marked, and its guest, which runs.
type cutover struct {
	*bench
	lv     *libvirttest.Server
	landed job.Landed
	before vspheretest.Settings

	mu    sync.Mutex
	judge func(libvirttest.Call) libvirttest.Verdict // of what libvirt is asked for; nil hands all on
}

func newCutover(t *testing.T, lv *libvirttest.Server) *cutover {
	t.Helper()
	b, def := finishing(t)
	c := &cutover{bench: b, lv: lv, before: b.Settings("guest1")}
	def.Options.NetworkMap = map[string]string{job.AnyNetwork: "lan"}
	def.Options.Landing = job.Landing{Libvirt: lv.Between(c.judged), Define: true, OnCollision: job.CollisionSuffix}
	c.landed = *b.export(def).Landed
	lv.Virsh("start", c.landed.UUID)
	lv.Virsh("autostart", c.landed.UUID)
	t.Cleanup(func() {
		if strings.Contains(lv.Virsh("list", "--name"), c.landed.Domain) {
			lv.Virsh("destroy", c.landed.UUID)
		}
	})
	return c
}

func (c *cutover) judged(call libvirttest.Call) (v libvirttest.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.judge != nil {
		v = c.judge(call)
	}
	return v
}

func (c *cutover) on(judge func(libvirttest.Call) libvirttest.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judge = judge
}

// cutAt ends connections at a call.
func cutAt(p libvirttest.Procedure) func(libvirttest.Call) libvirttest.Verdict {
	return func(call libvirttest.Call) libvirttest.Verdict { return libvirttest.Verdict{Cut: call.Procedure == p} }
}

// goBack is a rollback as a job of a daemon, in one second.
func (c *cutover) goBack(ctx context.Context, change func(*job.Options)) (string, error) {
	def := c.job(job.FormatOVF)
	def.ID = "way-back"
	def.Options = job.Options{Landing: job.Landing{Libvirt: c.landed.URI}, Rollback: job.Rollback{Back: true, StopTimeout: "1s"}}
	if change != nil {
		change(&def.Options)
	}
	tr := progress.New()
	result, err := c.m.Run(ctx, def, tr)
	if (err == nil) != result.Success {
		c.t.Errorf("%v, and the result %+v", err, result)
	}
	return events(tr), err
}

// target is the state of the guest.
func (c *cutover) target() string { return c.lv.Virsh("domstate", c.landed.UUID) }

// stays fails the test unless the source is as the cutover left it.
func (c *cutover) stays() {
	c.t.Helper()
	c.marked()
	if p := c.PowerState("guest1"); p != vsphere.PoweredOff {
		c.t.Errorf("the source is %s", p)
	}
}

// isBack fails the test unless the source is as it was, and the target off for good.
func (c *cutover) isBack() {
	c.t.Helper()
	if after := c.Settings("guest1"); !reflect.DeepEqual(after, c.before) {
		c.t.Errorf("the VM was %+v and is %+v", c.before, after)
	}
	c.runs()
	c.gone()
	if s := c.target(); s != "shut off" {
		c.t.Errorf("the target is %s", s)
	}
	if info := c.lv.Virsh("dominfo", c.landed.UUID); !strings.Contains(strings.ReplaceAll(info, " ", ""), "Autostart:disable") {
		c.t.Errorf("the target starts with its host:\n%s", info)
	}
}

// They share a libvirtd, which takes seconds to start.
func TestTheWayBackStopsTheTargetBeforeTheSourceRuns(t *testing.T) {
	t.Parallel()
	lv := libvirttest.Start(t)
	lv.Network("lan")
	for name, test := range map[string]func(*testing.T, *cutover){
		"first the target, then the marks, then the source; and again":  goesBackInOrder,
		"while libvirt is away the source stays off":                    staysOffWithoutLibvirt,
		"while the target cannot be stopped the source stays off":       staysOffWhileTargetRuns,
		"a target that is started again keeps the source off":           staysOffWhenTargetIsStarted,
		"without the vCenter the target runs on":                        runsOnWithoutVCenter,
		"a process that dies at any place is followed by one that ends": diesOnTheWayBack,
		"a daemon asks no libvirt that its job does not name":           asksNoOtherLibvirt,
	} {
		t.Run(name, func(t *testing.T) { test(t, newCutover(t, lv)) })
	}
}

func goesBackInOrder(t *testing.T, c *cutover) {
	for _, method := range []string{"SetField", "ReconfigVM_Task", "PowerOnVM_Task"} {
		c.OnCall(method, func() {
			if s := c.target(); s != "shut off" {
				t.Errorf("at %s the target is %s", method, s)
			}
		})
	}
	for range 2 {
		if told, err := c.goBack(t.Context(), nil); err != nil {
			t.Errorf("%v\n%s", err, told)
		}
		c.isBack()
	}
	c.lv.Virsh("undefine", c.landed.UUID)
	if told, err := c.goBack(t.Context(), nil); err != nil || !strings.Contains(told, "is gone") {
		t.Errorf("without the domain: %v\n%s", err, told)
	}
}

func staysOffWithoutLibvirt(t *testing.T, c *cutover) {
	c.on(func(libvirttest.Call) libvirttest.Verdict { return libvirttest.Verdict{Cut: true} })
	told, err := c.goBack(t.Context(), nil)
	if !errors.Is(err, landing.ErrAway) || !strings.Contains(fault.Hint(err), "target_is_stopped") || !strings.Contains(fault.Hint(err), "same addresses") {
		t.Errorf("%v (%s)\n%s", err, fault.Hint(err), told)
	}
	c.stays()
	c.lv.Virsh("destroy", c.landed.UUID)
	c.lv.Virsh("autostart", "--disable", c.landed.UUID)
	if told, err := c.goBack(t.Context(), func(o *job.Options) { o.TargetIsStopped = true }); err != nil || !strings.Contains(told, "taken as given") {
		t.Errorf("with the word of a person: %v\n%s", err, told)
	}
	c.isBack()
}

func staysOffWhileTargetRuns(t *testing.T, c *cutover) {
	c.on(func(call libvirttest.Call) (v libvirttest.Verdict) {
		if call.Procedure == libvirttest.Destroy {
			v.Refuse = "Device or resource busy"
		}
		return v
	})
	if told, err := c.goBack(t.Context(), nil); !errors.Is(err, landing.ErrRuns) || !strings.Contains(err.Error(), "busy") {
		t.Errorf("%v\n%s", err, told)
	}
	if s := c.target(); s != "running" {
		t.Errorf("the target is %s", s)
	}
	c.stays()
	c.on(nil)
	if told, err := c.goBack(t.Context(), nil); err != nil {
		t.Errorf("once it can be: %v\n%s", err, told)
	}
	c.isBack()
}

func staysOffWhenTargetIsStarted(t *testing.T, c *cutover) {
	var once sync.Once
	c.OnCall("ReconfigVM_Task", func() { once.Do(func() { c.lv.Virsh("start", c.landed.UUID) }) })
	if told, err := c.goBack(t.Context(), nil); !errors.Is(err, landing.ErrRuns) || !strings.Contains(err.Error(), "started the domain") {
		t.Errorf("%v\n%s", err, told)
	}
	if p := c.PowerState("guest1"); p != vsphere.PoweredOff {
		t.Errorf("both run: the source is %s", p)
	}
	if told, err := c.goBack(t.Context(), nil); err != nil {
		t.Errorf("%v\n%s", err, told)
	}
	c.isBack()
}

func runsOnWithoutVCenter(t *testing.T, c *cutover) {
	endpoint := c.m.Endpoint
	c.m.Endpoint = func(def job.Definition) (vsphere.Config, error) {
		cfg, err := endpoint(def)
		cfg.Password = "another"
		return cfg, err
	}
	if told, err := c.goBack(t.Context(), nil); err == nil {
		t.Errorf("the way back is done\n%s", told)
	}
	if s := c.target(); s != "running" {
		t.Errorf("the target is %s", s)
	}
	c.stays()
	c.m.Endpoint = endpoint
	if told, err := c.goBack(t.Context(), nil); err != nil {
		t.Errorf("%v\n%s", err, told)
	}
	c.isBack()
}

func diesOnTheWayBack(t *testing.T, c *cutover) {
	for _, p := range []libvirttest.Procedure{libvirttest.SetAutostart, libvirttest.ShutdownFlags, libvirttest.Destroy} {
		c.on(cutAt(p))
		if told, err := c.goBack(t.Context(), nil); !errors.Is(err, landing.ErrAway) {
			t.Errorf("at call %d of libvirt: %v\n%s", p, err, told)
		}
		c.stays()
	}
	c.on(nil)
	for _, method := range []string{"SetField", "ReconfigVM_Task", "PowerOnVM_Task"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		c.OnCall(method, func() { cancel(job.ErrClaimLost) })
		told, err := c.goBack(ctx, nil)
		cancel(nil)
		if err == nil && method != "PowerOnVM_Task" { // which may have come to be
			t.Errorf("at %s: it is done\n%s", method, told)
		}
	}
	if told, err := c.goBack(t.Context(), nil); err != nil {
		t.Errorf("%v\n%s", err, told)
	}
	c.isBack()
	if n := c.asked("PowerOnVM_Task"); n != 1 {
		t.Errorf("it was powered on %d times", n)
	}
}

func asksNoOtherLibvirt(t *testing.T, c *cutover) {
	asked := false
	c.on(func(libvirttest.Call) libvirttest.Verdict {
		asked = true
		return libvirttest.Verdict{}
	})
	for _, uri := range []string{"", "qemu:///session"} {
		told, err := c.goBack(t.Context(), func(o *job.Options) { o.Libvirt = uri })
		if !migrate.Permanent(err) || !strings.Contains(fault.Hint(err), "options.libvirt") || asked {
			t.Errorf("%q: %v\n%s", uri, err, told)
		}
	}
	c.on(nil)
	c.stays()
}

func TestOfAnExportWhoseTargetIsNotKnownAPersonHasToSayThatItIsStopped(t *testing.T) {
	t.Parallel()
	b, def := finishing(t)
	b.export(def)
	def.Options = job.Options{Rollback: job.Rollback{Back: true}}
	if _, tr, err := b.run(t.Context(), def); !errors.Is(err, landing.ErrRuns) || !strings.Contains(fault.Hint(err), "-target-is-stopped") {
		t.Errorf("%v\n%s", err, events(tr))
	}
	b.marked()
	def.VMPath = "another"
	if _, _, err := b.run(t.Context(), def); !errors.Is(err, migrate.ErrNoExport) || !migrate.Permanent(err) {
		t.Errorf("of another VM: %v", err)
	}
	def.VMPath, def.Options.TargetIsStopped = "guest1", true
	result := b.export(def)
	if result.VMName != "guest1" || result.OutputDir != b.out || len(result.Notes) == 0 {
		t.Errorf("the result is %+v", result)
	}
	b.runs()
}
