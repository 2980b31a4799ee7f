// Package plan turns a choice of VMs and options into jobs, and words them: as
// commands to repeat them with, as a job file, and as sentences that say what
// will happen. Of a finished job it says how its disks were verified and what
// one does next.
//
// One VM goes to the output directory itself; of several, each goes to a
// directory of its own below it, named as its files are.
package plan

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Choices are what one chooses for all VMs of a plan.
type Choices struct {
	Output  string // absolute directory
	Options job.Options
	VMs     int    // VMs at a time, in this process
	Apart   bool   // one VM, too, gets a directory of its own below Output
	VCenter string // of the daemon's configuration; "" for its only one, and in this process
}

// Jobs makes a job for each VM.
func Jobs(vms []vsphere.VM, c Choices) []runs.Spec {
	specs := make([]runs.Spec, len(vms))
	taken := map[string]bool{}
	for i, vm := range vms {
		output := c.Output
		if len(vms) > 1 || c.Apart {
			output = filepath.Join(c.Output, folder(vm, taken))
		}
		def := job.Definition{
			Name: vm.DisplayName(), VMPath: vm.Path, OutputPath: output, Options: c.Options, VCenter: c.VCenter,
		}
		if vm.Power == vsphere.PoweredOff {
			def.Options.Snapshot = false
		}
		specs[i] = runs.Spec{Name: vm.DisplayName(), Ref: vm.Ref, Def: def.WithDefaults(), Size: vm.CommittedBytes}
	}
	return specs
}

// folder is the name of the VM's directory, unlike those that are taken; names
// that differ in case alone count as one.
func folder(vm vsphere.VM, taken map[string]bool) string {
	base := job.FileBase(vm.Name)
	name := base
	for n := 2; taken[strings.ToLower(name)]; n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	taken[strings.ToLower(name)] = true
	return name
}

// Validate returns every problem of the choices in words for people, joined.
func (c Choices) Validate() error {
	def := job.Definition{VMPath: "vm", OutputPath: c.Output, Options: c.Options}.WithDefaults()
	var invalid *job.ValidationError
	if err := def.Validate(); errors.As(err, &invalid) {
		var texts []string
		for _, p := range invalid.Problems {
			name := strings.NewReplacer("options.", "", "output_path", "output directory", "_", " ").Replace(p.Field)
			texts = append(texts, name+" "+p.Reason)
		}
		return errors.New(strings.Join(texts, "; "))
	}
	return nil
}

// Need is the space that the VMs take.
func Need(vms []vsphere.VM, c Choices) migrate.Space {
	var need migrate.Space
	for _, vm := range vms {
		need = need.Plus(migrate.SpaceOf(vm, c.Options))
	}
	return need
}

// CheckSpace compares what the VMs need with the bytes that are free. refuse
// tells why it cannot fit, warn why it may not. Without their disks, as in an
// inventory's list, nothing is refused.
func CheckSpace(vms []vsphere.VM, c Choices, free int64) (refuse, warn string) {
	if free < 0 {
		return "", ""
	}
	need := Need(vms, c)
	switch need.Fit(free) {
	case migrate.CannotFit:
		return fmt.Sprintf("%s are needed and %s are free: choose another directory, fewer VMs, or a compressed format",
			units.Bytes(need.AtLeast), units.Bytes(free)), ""
	case migrate.MayFit:
		return "", fmt.Sprintf("up to %s are needed and %s are free; thick disks may hold less, and compression makes it less",
			units.Bytes(need.AtMost), units.Bytes(free))
	}
	return "", ""
}

// Command is the command that runs a job in this process.
func Command(def job.Definition, thumbprint string) string {
	args := []string{"hyper2kvm", "export", "-vm", outcome.Quote(def.VMPath), "-output", outcome.Quote(def.OutputPath)}
	o := def.Options
	args = append(args, "-format", string(o.Format))
	if o.ParallelDownloads != job.DefaultParallelDownloads {
		args = append(args, "-parallel", strconv.Itoa(o.ParallelDownloads))
	}
	for _, flag := range []struct {
		name string
		on   bool
	}{
		{"-snapshot", o.Snapshot}, {"-shutdown", o.Shutdown}, {"-power-off", o.PowerOff}, {"-remove-cdrom", o.RemoveCDROM}, {"-virtio", o.Virtio},
		{"-convert", o.Convert}, {"-keep-ip", o.KeepIP},
		{"-compress", o.Compress}, {"-overwrite", o.Overwrite}, {"-define", o.Define}, {"-start", o.Start},
	} {
		if flag.on {
			args = append(args, flag.name)
		}
	}
	transport := string(o.Transport)
	if o.Transport == job.TransportNFC {
		transport = ""
	}
	for _, flag := range []struct{ name, value string }{
		{"-finish", o.Finish}, {"-shutdown-timeout", o.ShutdownTimeout}, {"-transport", transport}, {"-verify", string(o.Verify)},
		{"-network-map", job.FormatNetworkMap(o.NetworkMap)}, {"-for", o.For}, {"-limit", o.Limit},
		{"-libvirt", o.Libvirt}, {"-pool", o.Pool}, {"-on-collision", string(o.OnCollision)}, {"-thumbprint", thumbprint},
	} {
		if flag.value != "" {
			args = append(args, flag.name, outcome.Quote(flag.value))
		}
	}
	return strings.Join(args, " ")
}

// Words splits a command that [Command] or [outcome.Quote] made at the spaces between its
// words; quoted ones stay whole and quoted.
func Words(command string) []string {
	var words []string
	start, quoted := 0, false
	for i := 0; i < len(command); i++ {
		switch {
		case command[i] == '\\' && !quoted:
			i++
		case command[i] == '\'':
			quoted = !quoted
		case command[i] == ' ' && !quoted:
			words = append(words, command[start:i])
			start = i + 1
		}
	}
	return append(words, command[start:])
}

// JobFile is the jobs as a file that a daemon takes: one job, or jobs: with a
// list. It holds no password.
func JobFile(specs []runs.Spec) (string, error) {
	defs := make([]job.Definition, len(specs))
	for i, s := range specs {
		defs[i] = s.Def.Redacted()
	}
	var v any = struct {
		Jobs []job.Definition `yaml:"jobs"`
	}{defs}
	if len(defs) == 1 {
		v = defs[0]
	}
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("job file: %w", err)
	}
	return b.String(), enc.Close()
}

// Steps says what will happen, a sentence each.
func Steps(vms []vsphere.VM, c Choices) []string {
	running := 0
	for _, vm := range vms {
		if vm.Power != vsphere.PoweredOff {
			running++
		}
	}
	o := c.Options
	var steps []string
	if o.RemoveCDROM {
		steps = append(steps, "CD/DVD drives are taken out of the VMs; they are put back if the export fails, and stay out if it succeeds.")
	}
	switch {
	case running > 0 && o.Stops():
		how := "shut down"
		if !o.Shutdown {
			how = "powered off"
		}
		steps = append(steps, fmt.Sprintf("%s %s first, to stay off if the export succeeds, and to be powered on again if it fails.", counted(running, "running VM is", "running VMs are"), how))
	case running > 0 && o.Snapshot:
		steps = append(steps, fmt.Sprintf("%s exported from a temporary snapshot, which is removed afterwards. What the guest writes from then on is not in the copy.", counted(running, "running VM is", "running VMs are")))
	case running > 0:
		steps = append(steps, fmt.Sprintf("%s refused: only VMs that are off are exported without a snapshot.", counted(running, "running VM is", "running VMs are")))
	}
	if running < len(vms) {
		steps = append(steps, "A VM that is off cannot be powered on or moved while it is exported.")
	}
	switch o.Format {
	case job.FormatQcow2:
		text := "Each disk becomes a qcow2 image"
		if o.Compress {
			text = "Each disk becomes a compressed qcow2 image"
		}
		steps = append(steps, text+", with a libvirt domain for each VM.")
	case job.FormatRaw:
		steps = append(steps, "Each disk becomes a sparse raw image, with a libvirt domain for each VM.")
	case job.FormatOVA:
		steps = append(steps, "Disks stay VMDK as vSphere sends them, with an OVF descriptor and a manifest, in one OVA. While it is put together it takes the space twice.")
	default:
		steps = append(steps, "Disks stay VMDK as vSphere sends them, with an OVF descriptor and a manifest.")
	}
	switch o.Transport {
	case job.TransportDatastore:
		steps = append(steps, "Disks are read from the datastore in ranges. vSphere has no checksum of those to compare with.")
	case job.TransportNFC902:
		steps = append(steps, "Disks are read at random over port 902 of the ESXi host. It has no checksum of those to compare with.")
	case job.TransportVDDK:
		steps = append(steps, "Disks are read at random by nbdkit with VDDK. There is no checksum of those to compare with.")
	case job.TransportAuto:
		steps = append(steps, "Disks are read from the datastore in ranges or over port 902 of the host where that can be, for which vSphere has no checksum, and through the export lease otherwise.")
	}
	if o.Virtio && !o.Format.Streams() {
		steps = append(steps, "The domain has disks and NICs on virtio: the guest needs the drivers, or it does not boot.")
	}
	steps = append(steps, networkSteps(vms, o)...)
	steps = append(steps, afterwards(o)...)
	if o.Overwrite {
		steps = append(steps, "What an earlier export left there is replaced.")
	}
	return append(steps, "Files get their names only when everything of a VM has arrived and is verified. Nothing is deleted at the vCenter.")
}

// afterwards says what follows an export, a sentence each.
func afterwards(o job.Options) []string {
	var steps []string
	if o.Convert {
		steps = append(steps, "virt-v2v makes each guest ready for KVM, on overlays of the images; one that fails leaves its images as they were exported.")
	}
	if o.KeepIP {
		steps = append(steps, "Each guest gets files by which its new cards have the addresses that VMware Tools reported.")
	}
	if o.For != "" {
		steps = append(steps, "A landing kit for "+o.For+" is written beside the images.")
	}
	if o.Libvirt != "" {
		where := "stay in the output directory"
		if o.Pool != "" {
			where = "go into the storage pool " + o.Pool
		}
		what := ""
		switch {
		case o.Start:
			what = "; the domain is defined and started, and the guest waited for"
		case o.Define:
			what = "; the domain is defined"
		}
		steps = append(steps, "At "+o.Libvirt+" the images "+where+what+".")
	}
	if o.Finish != "" {
		steps = append(steps, "Once all has succeeded the source VM is marked: "+o.Finish+". hyper2kvm rollback takes that back.")
	}
	return steps
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
