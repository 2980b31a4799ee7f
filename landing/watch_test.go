package landing_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
)

// mute is an export whose guest says nothing on its console: nothing boots in it.
func mute(t *testing.T, lv *libvirttest.Server, name string) *export {
	t.Helper()
	e := newExport(t, lv, name)
	e.plan.Start, e.plan.Pool = true, ""
	if err := os.WriteFile(e.plan.Images[0].Path, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if strings.Contains(lv.Virsh("list", "--name"), name) {
			lv.Virsh("destroy", name)
		}
	})
	return e
}

// answering is libvirt with an agent in the guest, or without leases, as answer says.
func answering(lv *libvirttest.Server, answer func(libvirttest.Call) libvirttest.Verdict) string {
	return lv.Between(func(c libvirttest.Call) (v libvirttest.Verdict) {
		switch c.Procedure {
		case libvirttest.OpenConsole: // the firmware speaks on it
			v.Refuse = "nobody listens here"
		case libvirttest.InterfaceAddresses:
			v = answer(c)
		}
		return v
	})
}

func answersByAgent(t *testing.T, lv *libvirttest.Server) {
	e := mute(t, lv, "agent")
	asked := 0
	e.plan.URI = answering(lv, func(c libvirttest.Call) (v libvirttest.Verdict) {
		if c.Source() != 1 {
			return v
		}
		if asked++; asked == 1 {
			v.Refuse = "Guest agent is not responding"
			return v
		}
		v.Reply = libvirttest.Addresses("eth0", "00:50:56:aa:bb:cc", "192.0.2.7")
		return v
	})
	if landed := e.must(); landed.Answered != "agent: 192.0.2.7" || len(e.warned) > 0 {
		t.Errorf("answered %q, warned %q", landed.Answered, e.warned)
	}
}

func answersByLease(t *testing.T, lv *libvirttest.Server) {
	e := mute(t, lv, "lease")
	lv.Lease("lease", "00:50:56:aa:bb:cc", "192.0.2.8")
	e.plan.URI = answering(lv, func(libvirttest.Call) (v libvirttest.Verdict) { return v })
	if landed := e.must(); landed.Answered != "lease: 192.0.2.8" || len(e.warned) > 0 {
		t.Errorf("answered %q, warned %q", landed.Answered, e.warned)
	}
}

func doesNotAnswer(t *testing.T, lv *libvirttest.Server) {
	e := mute(t, lv, "silent")
	e.plan.URI = answering(lv, func(libvirttest.Call) (v libvirttest.Verdict) { return v })
	e.plan.Patience = time.Millisecond
	landed := e.must()
	if landed.Answered != "" || !landed.Started || len(e.warned) != 1 || !strings.Contains(e.warned[0], "has not answered") {
		t.Errorf("landed %+v, warned %q", landed, e.warned)
	}
	if s := lv.Virsh("domstate", "silent"); s != "running" {
		t.Errorf("it is %s", s)
	}
}

func endsBeforeItAnswers(t *testing.T, lv *libvirttest.Server) {
	e := mute(t, lv, "short")
	e.plan.URI = answering(lv, func(c libvirttest.Call) (v libvirttest.Verdict) {
		if c.Source() == 1 {
			lv.Virsh("destroy", "short")
		}
		return v
	})
	if landed := e.must(); landed.Answered != "" || len(e.warned) != 1 || !strings.Contains(e.warned[0], "has ended since") {
		t.Errorf("answered %q, warned %q", landed.Answered, e.warned)
	}
}

func getsTPM(t *testing.T, lv *libvirttest.Server) {
	e := mute(t, lv, "tpm")
	e.plan.TPM, e.plan.Start = true, false
	problems := withoutKVM(landing.Problems(t.Context(), e.plan))
	if len(problems) != 1 || problems[0].Fatal || !strings.Contains(problems[0].Text, "fresh TPM") {
		t.Errorf("it is said %+v", problems)
	}
	landed := e.must()
	if xml := lv.Virsh("dumpxml", "--inactive", "tpm"); !strings.Contains(xml, "<tpm model='tpm-crb'>") || !strings.Contains(xml, "<backend type='emulator' version='2.0'/>") {
		t.Errorf("the domain is\n%s", xml)
	}
	lv.Virsh("start", "tpm")
	if said := lv.Virsh("qemu-monitor-command", "tpm", `{"execute":"query-tpm"}`); !strings.Contains(said, "tpm-crb") {
		t.Errorf("QEMU says %s\n%s", said, lv.Log())
	}
	if left, err := filepath.Glob(lv.State("swtpm", landed.UUID, "tpm2", "*")); err != nil || len(left) == 0 {
		t.Errorf("its TPM keeps %v, %v", left, err)
	}
	lv.Virsh("destroy", "tpm")
}
