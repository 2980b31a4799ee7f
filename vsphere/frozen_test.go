package vsphere_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// frozenLab is a lab with port 902, whose VM guest1 has a disk of its own.
func frozenLab(t *testing.T, cfg vspheretest.Config) (*vspheretest.Server, []byte) {
	t.Helper()
	data := make([]byte, 4<<20)
	copy(data[1<<20:], bytes.Repeat([]byte("data on the disk "), 50_000))
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(cfg.VMs) == 0 {
		cfg.VMs = []vspheretest.VM{{Name: "guest1"}}
	}
	cfg.VMs[0].Disks = []vspheretest.Disk{{Path: path}}
	cfg.NFC902 = true
	return startLab(t, cfg), data
}

// readFrozen reads the first disk of guest1 over port 902.
func readFrozen(t *testing.T, c *vsphere.Client, target vsphere.Target) ([]byte, error) {
	t.Helper()
	d, err := c.OpenFrozen(context.Background(), target, target.VM.Disks[0], vsphere.FrozenOptions{})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if _, err := d.Probe(context.Background()); err != nil {
		return nil, err
	}
	body, err := d.Open(context.Background(), 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

func TestADiskOfAPoweredOffVMIsReadOverPort902WhateverItsTicketLooksLike(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"", "reordered", "lower-thumbprint", "certificate", "service-ssl", "no-host"} {
		cfg := vspheretest.Config{}
		if how != "" {
			cfg.Faults = []string{"nfc902:how=" + how}
		}
		srv, data := frozenLab(t, cfg)
		c := dial(t, labConfig(t, srv))
		got, err := readFrozen(t, c, vsphere.Target{VM: find(t, c, "guest1")})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q: %d bytes, %v", how, len(got), err)
		}
		if how != "" && srv.Struck()["nfc902"] != 1 {
			t.Errorf("%q did not strike", how)
		}
		if err := srv.NFCDrained(context.Background(), 0); err != nil || srv.NFC(0).Files != 0 {
			t.Errorf("%v, %+v", err, srv.NFC(0))
		}
	}
}

func TestATicketThatPinsNothingOrSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]error{
		"wrong-thumbprint": nfc.ErrCertificate, "no-thumbprint": nfc.ErrCertificate, "wrong-certificate": nfc.ErrCertificate,
		"bad-session-id": nfc.ErrUnsupported,
	} {
		srv, _ := frozenLab(t, vspheretest.Config{Faults: []string{"nfc902:times=always,how=" + how}})
		c := dial(t, labConfig(t, srv))
		if _, err := readFrozen(t, c, vsphere.Target{VM: find(t, c, "guest1")}); !errors.Is(err, want) || !fault.IsPermanent(err) {
			t.Errorf("%s: %v", how, err)
		}
	}
}

func TestARunningVMIsReadByItsSnapshotOnly(t *testing.T) {
	t.Parallel()
	srv, data := frozenLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}})
	c := dial(t, labConfig(t, srv))
	vm := find(t, c, "guest1")
	if _, err := readFrozen(t, c, vsphere.Target{VM: vm}); !errors.Is(err, vsphere.ErrUnsupported) {
		t.Errorf("without a snapshot: %v", err)
	}
	snap, err := c.CreateSnapshot(context.Background(), vm, "freeze")
	if err != nil {
		t.Fatal(err)
	}
	got, err := readFrozen(t, c, vsphere.Target{VM: vm, Snapshot: snap})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := c.RemoveSnapshot(context.Background(), snap); err != nil {
		t.Fatal(err)
	}
	vm.Power = vsphere.PoweredOff // as who has not noticed that it runs
	if _, err := readFrozen(t, c, vsphere.Target{VM: vm}); !errors.Is(err, nfc.ErrActiveLink) || !strings.Contains(fault.Hint(err), "snapshot") {
		t.Errorf("the active link: %v; %s", err, fault.Hint(err))
	}
}

func TestEitherPrivilegeIsEnoughForATicket(t *testing.T) {
	t.Parallel()
	const files, random = "VirtualMachine.Provisioning.GetVmFiles", "VirtualMachine.Provisioning.DiskRandomRead"
	for _, c := range []struct {
		denied []string
		ok     bool
	}{{nil, true}, {[]string{files}, true}, {[]string{random}, true}, {[]string{files, random}, false}} {
		srv, data := frozenLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", DeniedPrivileges: c.denied}}})
		client := dial(t, labConfig(t, srv))
		got, err := readFrozen(t, client, vsphere.Target{VM: find(t, client, "guest1")})
		if c.ok && (err != nil || !bytes.Equal(got, data)) {
			t.Errorf("without %v: %v", c.denied, err)
		}
		var e *vsphere.Error
		if !c.ok && (!errors.As(err, &e) || e.Privilege != files || !errors.Is(err, vsphere.ErrNoPermission)) {
			t.Errorf("without %v: %v", c.denied, err)
		}
	}
}

func TestAVSphereWithoutPort902IsAnUnsupportedOne(t *testing.T) {
	t.Parallel()
	srv := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1"}}})
	c := dial(t, labConfig(t, srv))
	vm := find(t, c, "guest1")
	vm.Disks = []vsphere.Disk{{Capacity: 512, Datastore: "LocalDS_0", File: "guest1/guest1.vmdk"}}
	if _, err := readFrozen(t, c, vsphere.Target{VM: vm}); !errors.Is(err, vsphere.ErrUnsupported) {
		t.Error(err)
	}
}

func TestADiskThatTheDatastoreServesIsLockedForPort902AndTheReverse(t *testing.T) {
	t.Parallel()
	srv, _ := frozenLab(t, vspheretest.Config{})
	c := dial(t, labConfig(t, srv))
	vm := find(t, c, "guest1")
	folder, release, err := c.DatastoreSource(vm, vm.Disks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	served := make(chan error, 1)
	var once bool
	srv.OnByte("guest1", 0, 1<<20, func() { // in the middle of a download
		_, err := readFrozen(t, c, vsphere.Target{VM: vm})
		served <- err
		once = true
	})
	body, err := folder.Open(context.Background(), 0, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		t.Error(err)
	}
	_ = body.Close()
	if err := <-served; !errors.Is(err, nfc.ErrLocked) || !once {
		t.Errorf("while /folder serves: %v", err)
	}
	d, err := c.OpenFrozen(context.Background(), vsphere.Target{VM: vm}, vm.Disks[0], vsphere.FrozenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	var status *transfer.StatusError
	if _, err := folder.Open(context.Background(), 0, 512); !errors.As(err, &status) || status.Code != 500 {
		t.Errorf("while NFC has it open: %v", err)
	}
}

func TestATicketIsAskedForAgainAfterTheSessionHasEnded(t *testing.T) {
	t.Parallel()
	srv, data := frozenLab(t, vspheretest.Config{})
	c := dial(t, labConfig(t, srv))
	vm := find(t, c, "guest1")
	srv.EndSessions()
	if got, err := readFrozen(t, c, vsphere.Target{VM: vm}); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
