// Command labvcenter runs the lab vCenter of package vspheretest.
//
//	labvcenter -addr 127.0.0.1:8989 -env-file lab.env -vm guest1=disk1.raw,disk2.raw
//
// With -profile FILE.json the lab behaves as a report says that hyper2kvm probe has
// written; flags that are given count for more than what stands there:
//
//	labvcenter -profile report.json -vm guest1=disk1.raw -rate 25MB/s
//
// The environment file is written once the lab is ready, and removed when it
// stops. See the documentation of vspheretest for profiles and faults.
//
// A VM is NAME=DISK[,DISK…][;ATTRIBUTE…]. A name with "=" in it needs an
// inventory file. Attributes:
//
//	folder=A/B    folder=Prod/Linux below the datacenter's vm folder
//	cpus=N  cores=N  memory=MIB  guest=ID  host=N
//	bus=KIND      controller of all disks: pvscsi, lsilogic, lsilogic-sas, sata, nvme, ide
//	nic=TYPE[/MAC]  may be repeated: vmxnet3, e1000e, e1000
//	network=NAME  port group of the card before it
//	cpuHotAdd  memoryHotAdd
//	efi  secureboot  nvram=FILE  iso=FILE  vtpm  encrypted  ft
//	poweredOn  cbt  snapshot=NAME  independent  rdm=virtual|physical
//
// A guest in a VM that is poweredOn runs VMware Tools if one of these is given:
//
//	tools[=HOSTNAME]
//	ip=ADDRESS/LENGTH  of the card before it, which needs a MAC; may be repeated
//	gateway=ADDRESS  dns=ADDRESS  dhcp
//	shutdown=TIME|never  how long it takes to shut down when it is asked to, 0s without
//
// so that -shutdown, -keep-ip and -finish of hyper2kvm can be tried:
//
//	labvcenter -env-file lab.env -vm 'web1=disk1.raw;poweredOn;nic=vmxnet3/00:50:56:01:02:03;network=VM Network;tools=web1;ip=192.0.2.10/24;gateway=192.0.2.1;dns=192.0.2.53;shutdown=5s'
//
// With -inventory FILE the VMs are read from YAML, a list of
//
//   - name: guest1
//     folder: Prod/Linux
//     disks: [{path: disk1.raw, controller: sata}, {path: disk2.vmdk, independent: true}]
//     nics: [{type: vmxnet3, mac: "00:50:56:01:02:03", network: VM Network, addresses: [192.0.2.10/24]}]
//     tools: {host_name: guest1, gateway: 192.0.2.1, dns: [192.0.2.53], shutdown: 5s}
//     powered_on: true
//     cpus: 4
//     cores_per_socket: 2
//     memory_mib: 2048
//     efi: true
//     nvram: guest1.nvram
//
// and so on: every attribute above, in snake case (cpu_hot_add).
//
// It ends at SIGINT or SIGTERM and leaves no files behind. Exit codes: 0 after
// a signal, 1 when the lab cannot start, 2 for wrong flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "labvcenter:", err)
		os.Exit(1)
	}
}

// errUsage marks errors that the flag package has already printed.
var errUsage = errors.New("wrong flags")

// run starts the lab, says what it serves, and waits for ctx to end.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	srv, err := vspheretest.New(o.config)
	if err != nil {
		return err
	}
	defer srv.Close()
	if o.envFile != "" {
		if err := writeEnv(o.envFile, srv.Env()); err != nil {
			return err
		}
		defer os.Remove(o.envFile)
	}
	describe(stdout, srv, o)
	<-ctx.Done()
	return nil
}

// describe prints what the lab serves; the password is in the environment file.
func describe(w io.Writer, srv *vspheretest.Server, o *options) {
	fmt.Fprintf(w, "vCenter   %s\n", srv.Env()[0][len("GOVC_URL="):])
	fmt.Fprintf(w, "          thumbprint %s\n", srv.Thumbprint())
	for i := range max(1, o.config.Hosts) {
		fmt.Fprintf(w, "ESXi %d    %s\n", i, srv.HostAddr(i))
		fmt.Fprintf(w, "          thumbprint %s\n", srv.HostThumbprint(i))
		if addr := srv.NFCAddr(i); addr != "" {
			fmt.Fprintf(w, "          port 902 is %s\n", addr)
		}
	}
	fmt.Fprintf(w, "profile   %s\n", o.profile)
	for _, vm := range o.config.VMs {
		path := srv.InventoryPath(vm.Folder + "/" + vm.Name)
		if vm.Folder == "" {
			path = srv.InventoryPath(vm.Name)
		}
		fmt.Fprintf(w, "VM        %s\n", path)
		for i := range vm.Disks {
			s := srv.Stream(path, i)
			fmt.Fprintf(w, "  disk %d  %s: capacity %d bytes, stream %d bytes\n", i, vm.Disks[i].Path, s.Capacity, s.Size)
		}
	}
	if o.config.BulkVMs > 0 {
		fmt.Fprintf(w, "VMs       %d more, without data\n", o.config.BulkVMs)
	}
	for _, f := range o.config.Faults {
		fmt.Fprintf(w, "fault     %s\n", f)
	}
	if o.envFile != "" {
		fmt.Fprintf(w, "ready     set -a; . %s\n", o.envFile)
	}
}

// writeEnv writes the variables in one step: who sees the file sees all of it.
func writeEnv(name string, env []string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".lab-env-*")
	if err != nil {
		return fmt.Errorf("write the environment file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(strings.Join(env, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the environment file: %w", err)
	}
	return os.Rename(f.Name(), name)
}
