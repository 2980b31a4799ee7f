package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// announcer tells when something was printed.
type announcer struct {
	bytes.Buffer
	word    string
	printed chan struct{}
}

func (a *announcer) Write(b []byte) (int, error) {
	n, err := a.Buffer.Write(b)
	if bytes.HasPrefix(b, []byte(a.word)) {
		close(a.printed)
	}
	return n, err
}

func TestTheLabRunsUntilItIsToldToStopAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	disk := write(t, "disk.raw", strings.Repeat("data", 1000))
	env := filepath.Join(t.TempDir(), "lab.env")
	temp := t.TempDir()
	out := &announcer{word: "ready", printed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{
			"-addr", "127.0.0.1:0", "-env-file", env, "-temp-dir", temp, "-vms", "25",
			"-vm", "guest1=" + disk + ";folder=Prod;efi", "-fault", "cut:at=1", "-profile", "ranged",
		}, out, io.Discard)
	}()
	select {
	case <-out.printed:
	case err := <-done:
		t.Fatalf("the lab stopped: %v", err)
	}
	text, err := os.ReadFile(env)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GOVC_URL=https://127.0.0.1:", "GOVC_USERNAME=", "GOVC_PASSWORD=", "GOVC_INSECURE=1"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the environment file has no %s:\n%s", want, text)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
	for _, want := range []string{"/DC0/vm/Prod/guest1", "25 more", "cut:at=1", "ranged"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it did not print %q:\n%s", want, out)
		}
	}
	if _, err := os.Stat(env); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the environment file is still there: %v", err)
	}
	if left, _ := os.ReadDir(temp); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

func TestFlagsAndInventoryFilesDescribeTheSameHardware(t *testing.T) {
	t.Parallel()
	nvram, iso := write(t, "x.nvram", "vars"), write(t, "x.iso", "image")
	o, err := parse([]string{
		"-vm", "guest1=a.raw,b.vmdk;folder=X/Y;cpus=4;cores=2;memory=2048;guest=debian12_64Guest;host=1;bus=sata;" +
			"nic=e1000e/00:50:56:01:02:03;network=VM Network;ip=192.0.2.10/24;ip=2001:db8::10/64;nic=vmxnet3;efi;secureboot;nvram=" + nvram + ";iso=" + iso +
			";vtpm;encrypted;ft;poweredOn;cbt;cpuHotAdd;memoryHotAdd;tools=web1;gateway=192.0.2.1;dns=192.0.2.53;dns=2001:db8::53;dhcp;shutdown=5s;snapshot=s1;snapshot=s2;independent;rdm=virtual",
		"-hosts", "2", "-rate", "25MB/s",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "inventory.yaml", `
- name: guest1
  folder: X/Y
  cpus: 4
  cores_per_socket: 2
  memory_mib: 2048
  guest_id: debian12_64Guest
  host: 1
  disks:
    - {path: a.raw, controller: sata, independent: true, rdm: virtual}
    - {path: b.vmdk, controller: sata, independent: true, rdm: virtual}
  nics:
    - {type: e1000e, mac: "00:50:56:01:02:03", network: VM Network, addresses: [192.0.2.10/24, "2001:db8::10/64"]}
    - {type: vmxnet3}
  tools: {host_name: web1, gateway: 192.0.2.1, dns: [192.0.2.53, "2001:db8::53"], dhcp: true, shutdown: 5s}
  cpu_hot_add: true
  memory_hot_add: true
  efi: true
  secure_boot: true
  nvram: `+nvram+`
  iso: `+iso+`
  vtpm: true
  encrypted: true
  fault_tolerant: true
  powered_on: true
  cbt: true
  snapshots: [s1, s2]
`)
	vms, err := readInventory(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vms, o.config.VMs); diff != "" {
		t.Errorf("inventory file and flags differ (-file +flags):\n%s", diff)
	}
	if o.config.Rate != 25e6 || len(o.config.VMs[0].Disks) != 2 || string(o.config.VMs[0].NVRAM) != "vars" {
		t.Errorf("config %+v", o.config)
	}
	g := o.config.VMs[0].Guest
	if g == nil || g.HostName != "web1" || g.ShutdownTakes != 5*time.Second || len(g.Net) != 2 || len(g.Net[0].IpConfig.IpAddress) != 2 ||
		g.IPStack[0].IpRouteConfig.IpRoute[0].Gateway.IpAddress != "192.0.2.1" || len(g.IPStack[0].DnsConfig.IpAddress) != 2 {
		t.Errorf("the guest is %+v", g)
	}
}

func TestAGuestThatNeverShutsDownAndOneWithoutTools(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-vm", "a=a.raw;shutdown=never", "-vm", "b=b.raw;nic=vmxnet3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := o.config.VMs[0].Guest, o.config.VMs[1].Guest; a == nil || a.ShutdownTakes >= 0 || b != nil {
		t.Errorf("the guests are %+v and %+v", a, b)
	}
	file := write(t, "inventory.yaml", "- name: a\n  disks: [{path: a.raw}]\n  nics: [{mac: \"00:50:56:01:02:03\", addresses: [192.0.2.1/24]}]\n")
	if _, err := readInventory(file); err == nil || !strings.Contains(err.Error(), "no tools") {
		t.Errorf("addresses without tools: %v", err)
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-vm", "guest1"}, "NAME=DISK"},
		{[]string{"-vm", "g=a.raw;colour=blue"}, "colour=blue"},
		{[]string{"-vm", "g=a.raw;cpus=many"}, "want a number"},
		{[]string{"-rate", "fast"}, "fast"},
		{[]string{"-vm", "g=a.raw;ip=192.0.2.1/24"}, "give nic=TYPE/MAC first"},
		{[]string{"-vm", "g=a.raw;network=lan"}, "give nic=TYPE first"},
		{[]string{"-vm", "g=a.raw;nic=e1000;ip=192.0.2.1/24"}, "needs a MAC address"},
		{[]string{"-vm", "g=a.raw;nic=e1000/00:50:56:01:02:03;ip=192.0.2.1"}, "192.0.2.10/24"},
		{[]string{"-vm", "g=a.raw;gateway=router"}, `gateway "router"`},
		{[]string{"-vm", "g=a.raw;dns=names"}, `dns "names"`},
		{[]string{"-vm", "g=a.raw;shutdown=soon"}, `shutdown "soon"`},
		{[]string{"-vm", "g=a.raw;shutdown=-1s"}, `shutdown "-1s"`},
		{[]string{"surplus"}, "surplus"},
	} {
		var out bytes.Buffer
		if _, err := parse(tt.args, &out); !errors.Is(err, errUsage) || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%v: %v, printed:\n%s", tt.args, err, out.String())
		}
	}
}

func TestALabThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	disk := write(t, "disk.raw", "data")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-vm", "g=/no/such/disk.raw"}, "/no/such/disk.raw"},
		{[]string{"-vm", "g=" + write(t, "not.vmdk", "text")}, "no stream-optimized VMDK"},
		{[]string{"-vm", "g=" + disk, "-vm", "g=" + disk}, "two VMs"},
		{[]string{"-vm", "g=" + disk + ";bus=floppy"}, "floppy"},
		{[]string{"-profile", "quick"}, "quick"},
		{[]string{"-fault", "cut"}, "at=SIZE"},
	} {
		err := run(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, tt.args...), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v", tt.args, err)
		}
	}
}
