package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// options are the command line, read.
type options struct {
	config  vspheretest.Config
	envFile string
	profile string
}

// parse reads the command line. A profile is what the flags begin with: those that are
// given count for more.
func parse(args []string, stderr io.Writer) (*options, error) {
	o, err := parseOver(vspheretest.Config{NFC902: true}, args, stderr)
	if err != nil {
		return nil, err
	}
	r, err := readProfile(o.profile)
	if err != nil {
		return nil, err
	}
	base := vspheretest.Config{}.As(r)
	if !strings.HasSuffix(o.profile, ".json") {
		base.NFC902 = true
	}
	return parseOver(base, args, io.Discard) // what is wrong was told the first time
}

// readProfile reads a profile: one of the lab's by its name, or the file of a report.
func readProfile(name string) (findings.Report, error) {
	if strings.HasSuffix(name, ".json") || strings.ContainsAny(name, `/\`) {
		return findings.Read(name)
	}
	return vspheretest.Profile(name).Report()
}

// parseOver reads the command line over what base has.
func parseOver(base vspheretest.Config, args []string, stderr io.Writer) (*options, error) {
	o := &options{config: base}
	c := &o.config
	var inventory string
	fs := flag.NewFlagSet("labvcenter", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&c.Addr, "addr", "127.0.0.1:8989", "listen for vCenter's clients on this `host:port`; port 0 takes a free one")
	fs.StringVar(&c.HostAddr, "esxi-addr", "", "`host:port` of the first ESXi host (default a free port of -addr's host)")
	fs.StringVar(&o.envFile, "env-file", "", "write the GOVC_* variables to this `file` once the lab is ready")
	fs.Func("vm", "serve a VM: `NAME=DISK[,DISK…][;ATTRIBUTE…]`; may be repeated", func(s string) error {
		vm, err := parseVM(s)
		c.VMs = append(c.VMs, vm)
		return err
	})
	fs.StringVar(&inventory, "inventory", "", "serve the VMs that this YAML `file` lists as well")
	fs.IntVar(&c.BulkVMs, "vms", 0, "add this `number` of VMs without data")
	fs.IntVar(&c.Hosts, "hosts", max(1, base.Hosts), "`number` of ESXi hosts")
	fs.StringVar(&o.profile, "profile", string(vspheretest.Stream), "behave as this `profile`: "+profileNames()+", or the file of a report that hyper2kvm probe has written")
	fs.Func("rate", "limit each connection to so many `bytes/s`, as in 25MB/s", func(s string) (err error) {
		c.Rate, err = units.ParseRate(s)
		return err
	})
	fs.DurationVar(&c.Latency, "latency", base.Latency, "add this `time` to every request")
	fs.DurationVar(&c.LeaseTimeout, "lease-timeout", cmp.Or(base.LeaseTimeout, 300*time.Second), "a lease ends when it is not renewed for this `time`")
	fs.DurationVar(&c.SessionIdle, "session-idle", 30*time.Minute, "a session ends when it is not used for this `time`")
	fs.IntVar(&c.StreamsPerHost, "streams-per-host", base.StreamsPerHost, "refuse more than this `number` of streams a host with 503")
	fs.StringVar(&c.APIVersion, "api-version", base.APIVersion, "`version` that vCenter and hosts claim (default 8.0.3.0)")
	fs.BoolVar(&c.NFC902, "nfc902", base.NFC902, "serve port 902 of each host, on a port that tickets name")
	fs.Func("nfc-memory", "refuse NFC sessions whose buffers take more than so many `bytes` of a host, as in 48MiB", func(s string) (err error) {
		c.NFCMemory, err = units.ParseSize(s)
		return err
	})
	fs.BoolVar(&c.DirectURLs, "direct-urls", base.DirectURLs, "give device URLs as a host does: https://*/ha-nfc/…")
	fs.BoolVar(&c.NoManifest, "no-manifest", false, "list nothing in the lease's manifest")
	fs.BoolVar(&c.NamedURLs, "named-urls", false, "give device URLs with the VM's name in them, unescaped")
	fs.BoolVar(&c.ConcurrentLeases, "concurrent-leases", false, "allow several leases on one VM")
	fs.StringVar(&c.TempDir, "temp-dir", "", "keep prepared streams in this `directory`")
	fs.Func("deny", "let the user lack this `privilege` on all objects, as in VApp.Export; may be repeated", func(s string) error {
		c.DeniedPrivileges = append(c.DeniedPrivileges, s)
		return nil
	})
	fs.Func("fault", "let something go wrong, as in `cut:at=50MB,times=2`, down:plane=control,for=8s,after=5s or "+
		"task:call=CreateSnapshot_Task,takes=70s; may be repeated", func(s string) error {
		c.Faults = append(c.Faults, s)
		return nil
	})
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "labvcenter: unexpected argument %q\n", fs.Arg(0))
		return nil, errUsage
	}
	if inventory != "" {
		vms, err := readInventory(inventory)
		if err != nil {
			return nil, err
		}
		c.VMs = append(c.VMs, vms...)
	}
	return o, nil
}

// profileNames lists the lab's profiles.
func profileNames() string {
	var names []string
	for _, p := range vspheretest.Profiles() {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// parseVM reads NAME=DISK[,DISK…][;ATTRIBUTE…].
func parseVM(s string) (vspheretest.VM, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return vspheretest.VM{}, fmt.Errorf("%q: want NAME=DISK[,DISK…][;ATTRIBUTE…]", s)
	}
	vm := vmFile{Name: name}
	disks, attributes, _ := strings.Cut(rest, ";")
	for d := range strings.SplitSeq(disks, ",") {
		if d != "" {
			vm.Disks = append(vm.Disks, diskFile{Path: d})
		}
	}
	for a := range strings.SplitSeq(attributes, ";") {
		if a == "" {
			continue
		}
		key, value, _ := strings.Cut(a, "=")
		if err := vm.set(key, value); err != nil {
			return vspheretest.VM{}, fmt.Errorf("VM %q: attribute %q: %w", name, a, err)
		}
	}
	return vm.read()
}

// vmFile is a VM as flags and inventory files write it.
type vmFile struct {
	Name             string     `yaml:"name"`
	Folder           string     `yaml:"folder"`
	Host             int        `yaml:"host"`
	Disks            []diskFile `yaml:"disks"`
	NICs             []nicFile  `yaml:"nics"`
	CPUs             int32      `yaml:"cpus"`
	CoresPerSocket   int32      `yaml:"cores_per_socket"`
	MemoryMiB        int64      `yaml:"memory_mib"`
	GuestID          string     `yaml:"guest_id"`
	Annotation       string     `yaml:"annotation"`
	EFI              bool       `yaml:"efi"`
	SecureBoot       bool       `yaml:"secure_boot"`
	NVRAM            string     `yaml:"nvram"`
	ISO              string     `yaml:"iso"`
	CDDisconnect     bool       `yaml:"cd_disconnected"`
	VTPM             bool       `yaml:"vtpm"`
	Encrypted        bool       `yaml:"encrypted"`
	FaultTolerant    bool       `yaml:"fault_tolerant"`
	PoweredOn        bool       `yaml:"powered_on"`
	CBT              bool       `yaml:"cbt"`
	CPUHotAdd        bool       `yaml:"cpu_hot_add"`
	MemoryHotAdd     bool       `yaml:"memory_hot_add"`
	Tools            *toolsFile `yaml:"tools"`
	Snapshots        []string   `yaml:"snapshots"`
	DisabledMethods  []string   `yaml:"disabled_methods"`
	DeniedPrivileges []string   `yaml:"denied_privileges"`
}

type diskFile struct {
	Path        string `yaml:"path"`
	Controller  string `yaml:"controller"`
	Independent bool   `yaml:"independent"`
	RDM         string `yaml:"rdm"`
}

type nicFile struct {
	Type      string   `yaml:"type"`
	MAC       string   `yaml:"mac"`
	Network   string   `yaml:"network"`
	Addresses []string `yaml:"addresses"`
}

// set applies one attribute of a -vm flag.
func (v *vmFile) set(key, value string) (err error) {
	switches := map[string]*bool{
		"efi": &v.EFI, "secureboot": &v.SecureBoot, "vtpm": &v.VTPM, "encrypted": &v.Encrypted,
		"ft": &v.FaultTolerant, "poweredOn": &v.PoweredOn, "cbt": &v.CBT,
		"cpuHotAdd": &v.CPUHotAdd, "memoryHotAdd": &v.MemoryHotAdd,
	}
	if b := switches[key]; b != nil && value == "" {
		*b = true
		return nil
	}
	words := map[string]*string{"folder": &v.Folder, "guest": &v.GuestID, "nvram": &v.NVRAM, "iso": &v.ISO}
	if w := words[key]; w != nil {
		*w = value
		return nil
	}
	if toolsAttributes[key] {
		return v.setTools(key, value)
	}
	switch key {
	case "cpus", "cores", "memory", "host":
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return errors.New("want a number")
		}
		switch key {
		case "cpus":
			v.CPUs = int32(n)
		case "cores":
			v.CoresPerSocket = int32(n)
		case "memory":
			v.MemoryMiB = n
		default:
			v.Host = int(n)
		}
	case "nic":
		kind, mac, _ := strings.Cut(value, "/")
		v.NICs = append(v.NICs, nicFile{Type: kind, MAC: mac})
	case "network":
		if len(v.NICs) == 0 {
			return errors.New("a network is of the card before it: give nic=TYPE first")
		}
		v.NICs[len(v.NICs)-1].Network = value
	case "snapshot":
		v.Snapshots = append(v.Snapshots, value)
	case "bus", "independent", "rdm":
		for i := range v.Disks {
			switch key {
			case "bus":
				v.Disks[i].Controller = value
			case "rdm":
				v.Disks[i].RDM = value
			default:
				v.Disks[i].Independent = true
			}
		}
	default:
		return errors.New("unknown; see the documentation of this command")
	}
	return nil
}

// read turns v into a VM, reading the files that it names.
func (v *vmFile) read() (vspheretest.VM, error) {
	vm := vspheretest.VM{
		Name: v.Name, Folder: v.Folder, Host: v.Host, CPUs: v.CPUs, CoresPerSocket: v.CoresPerSocket,
		MemoryMiB: v.MemoryMiB, GuestID: v.GuestID, Annotation: v.Annotation, EFI: v.EFI, SecureBoot: v.SecureBoot,
		CDDisconnect: v.CDDisconnect, VTPM: v.VTPM, Encrypted: v.Encrypted, FaultTolerant: v.FaultTolerant,
		PoweredOn: v.PoweredOn, CBT: v.CBT, Snapshots: v.Snapshots, CPUHotAdd: v.CPUHotAdd, MemoryHotAdd: v.MemoryHotAdd,
		DisabledMethods: v.DisabledMethods, DeniedPrivileges: v.DeniedPrivileges,
	}
	for _, d := range v.Disks {
		vm.Disks = append(vm.Disks, vspheretest.Disk{
			Path: d.Path, Controller: vspheretest.Controller(d.Controller), Independent: d.Independent, RDM: vspheretest.RDM(d.RDM),
		})
	}
	for _, n := range v.NICs {
		vm.NICs = append(vm.NICs, vspheretest.NIC{Type: n.Type, MAC: n.MAC, Network: n.Network})
	}
	var err error
	if vm.Guest, err = v.guest(); err != nil {
		return vm, fmt.Errorf("VM %q: %w", v.Name, err)
	}
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{v.NVRAM, &vm.NVRAM}, {v.ISO, &vm.ISO}} {
		if f.name == "" {
			continue
		}
		b, err := os.ReadFile(f.name)
		if err != nil {
			return vm, fmt.Errorf("VM %q: %w", v.Name, err)
		}
		*f.to = b
	}
	return vm, nil
}

func readInventory(name string) ([]vspheretest.VM, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	var files []vmFile
	if err := dec.Decode(&files); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("inventory %s: %w", name, err)
	}
	var vms []vspheretest.VM
	for i := range files {
		vm, err := files[i].read()
		if err != nil {
			return nil, fmt.Errorf("inventory %s: %w", name, err)
		}
		vms = append(vms, vm)
	}
	return vms, nil
}
