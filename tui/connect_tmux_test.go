package tui_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestTmuxAfterAnUnknownHostOnlyTheAddressIsTypedAgain(t *testing.T) {
	t.Parallel()
	srv, _ := lab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "vm"}}, Password: "Sesame!"})
	host := srv.URL().Host
	p := newPane(t).run(100, 40)
	p.until("vCenter or ESXi host:")
	p.text("nosuch.invalid\n")
	p.until("User name:")
	p.text("user\n")
	p.until("Password of user:")
	p.text("Sesame!\n")
	p.until("nosuch.invalid cannot be resolved", "vCenter or ESXi host [nosuch.invalid]:")
	p.text(host + "/nosuch\n") // and then a wrong path
	p.until("vCenter or ESXi host [nosuch.invalid]:", "[y/N]:")
	p.text("y\n")
	p.until("is this the address of a vCenter", "vCenter or ESXi host ["+host+"]:")
	p.text(host + "/sdk\n")
	screen := p.until("[y/N]:")
	p.text("y\n")
	p.until("1 of 1")
	if n := strings.Count(screen, "Password of"); n != 1 {
		t.Errorf("the password was asked for %d times:\n%s", n, screen)
	}
	p.keys("C-c")
	p.until("ENDED WELL")
}

func TestTmuxASavedVCenterSetsTheFormatThatOneStartsFrom(t *testing.T) {
	t.Parallel()
	srv, env := lab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "vm"}}})
	p := newPane(t)
	if err := os.MkdirAll(p.config, 0o700); err != nil {
		t.Fatal(err)
	}
	profiles := "profiles: [{name: lab, url: 'https://" + srv.URL().Host + "/sdk', format: raw}]"
	if err := os.WriteFile(filepath.Join(p.config, "profiles.yaml"), []byte(profiles), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(100, 30, env...)
	p.until("1 of 1")
	p.keys("Enter")
	p.until("● raw", "○ ovf")
	p.keys("C-c")
	p.until("ENDED WELL")
	p.run(100, 30, append(env, "HYPER2KVM_FORMAT=ovf")...)
	p.until("1 of 1")
	p.keys("Enter")
	p.until("● ovf", "○ raw")
	p.keys("C-c")
	p.run(100, 30, append(env, "HYPER2KVM_FORMAT=vhdx")...)
	p.until("HYPER2KVM_FORMAT: must be ovf, ova, raw or qcow2", "ENDED BADLY")
}
