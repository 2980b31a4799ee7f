package landing_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
)

// script is the landing kit for libvirt, beside an export of two images.
type script struct {
	t    *testing.T
	lv   *libvirttest.Server
	dir  string
	path string
	pool string // directory of the pool
}

func newScript(t *testing.T, lv *libvirttest.Server, name string) *script {
	t.Helper()
	e := newExport(t, lv, name) // for its images, pool and network
	s := &script{t: t, lv: lv, dir: filepath.Dir(e.plan.Images[0].Path), pool: e.pool}
	m := kit.Machine{
		Guest: kvm.Guest{
			Name: name, MemoryMiB: 64, CPUs: 1, UUID: e.plan.UUID,
			NICs: []kvm.NIC{{MAC: "00:50:56:aa:bb:cc", Model: "vmxnet3", Network: "VM Network"}},
		},
		Options: kvm.Options{NetworkMap: map[string]string{kvm.AnyNetwork: name}},
	}
	for i, format := range []kvm.Format{kvm.Raw, kvm.QCOW2} {
		path := e.plan.Images[i].Path
		m.Guest.Disks = append(m.Guest.Disks, kvm.Disk{Path: path, Format: format, Bus: []kvm.Bus{kvm.IDE, kvm.SATA}[i]})
		m.Images = append(m.Images, kit.Image{File: filepath.Base(path), Format: format, Capacity: 64 * mib})
	}
	text, _, err := kit.Write(kit.Libvirt, m)
	s.path = filepath.Join(s.dir, kit.FileName(kit.Libvirt, name))
	if err == nil {
		err = os.WriteFile(s.path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *script) run(env ...string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), "sh", s.path)
	cmd.Dir = s.t.TempDir()
	cmd.Env = append(os.Environ(), append([]string{"URI=" + s.lv.URI(), "POOL=" + filepath.Base(s.path[:len(s.path)-len(".libvirt.sh")])}, env...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The script for libvirt lands the same as the landing does, with virsh.
func landsByScript(t *testing.T, lv *libvirttest.Server) {
	s := newScript(t, lv, "by-script")
	if out, err := s.run(); err == nil || !strings.Contains(out, "TYPE=qemu") {
		t.Fatalf("without KVM it says %s, %v", out, err)
	}
	if out, err := s.run("TYPE=qemu"); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, lv.Log())
	}
	for i, format := range []string{"raw", "qcow2"} {
		name := fmt.Sprintf("by-script-disk-%d.%s", i, format)
		at := filepath.Join(s.pool, name)
		qemuImg(t, "compare", "-f", format, "-F", format, filepath.Join(s.dir, name), at)
		if format == "qcow2" {
			qemuImg(t, "check", at)
		}
		if info, err := os.Stat(at); err != nil || volume.Allocated(info) > 8*mib {
			t.Errorf("image %d: %v, %d bytes allocated", i, err, volume.Allocated(info))
		}
		if info := lv.Virsh("vol-dumpxml", "--pool", "by-script", name); !strings.Contains(info, fmt.Sprintf("<format type='%s'/>", format)) {
			t.Errorf("libvirt takes the volume for\n%s", info)
		}
	}
	lv.Virsh("start", "by-script")
	if said := lv.Virsh("qemu-monitor-command", "by-script", `{"execute":"query-status"}`); !strings.Contains(said, `"status":"running"`) {
		t.Errorf("QEMU says %s", said)
	}
	lv.Virsh("destroy", "by-script")
	if out, err := s.run("TYPE=qemu"); err == nil || !strings.Contains(out, "is there already") {
		t.Errorf("a second time it says %s, %v", out, err)
	}
	if out, err := s.run("TYPE=qemu", "NAME=another"); err == nil || !strings.Contains(out, "is taken by the domain by-script") {
		t.Errorf("under another name it says %s, %v", out, err)
	}
	lv.Virsh("undefine", "by-script")
	if out, err := s.run("TYPE=qemu"); err == nil || len(s.volumes()) != 2 {
		t.Errorf("over volumes that are there already it says %s, %v, and leaves %v", out, err, s.volumes())
	}
}

// volumes are the files in the pool.
func (s *script) volumes() (names []string) {
	entries, err := os.ReadDir(s.pool)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func scriptUndoes(t *testing.T, lv *libvirttest.Server) {
	s := newScript(t, lv, "script-undoes")
	if out, err := s.run("TYPE=nonsense"); err == nil || len(s.volumes()) != 0 {
		t.Errorf("a domain that libvirt refuses: %s, %v, and %v is left", out, err, s.volumes())
	}
	if domains := lv.Virsh("list", "--all", "--name"); strings.Contains(domains, "script-undoes") {
		t.Errorf("there are %s", domains)
	}
	if out, err := s.run("TYPE=qemu", "POOL=nowhere"); err == nil || !strings.Contains(out, "nowhere is no storage pool") {
		t.Errorf("without the pool it says %s, %v", out, err)
	}
}
