package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/jobflags"
	"github.com/hyper2kvm/hyper2kvm/internal/tilde"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/tui/profile"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/vddk"
)

// optionFlags are the flags that say what becomes of a VM and how. check has them
// too, so that it judges the very export that would be run.
func optionFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "format", Usage: "`FORMAT` to land in: ovf (default), ova, raw, or qcow2; " + profile.FormatVariable + " or a saved profile sets another default"},
		&cli.StringFlag{Name: "transport", Value: string(job.TransportNFC), Usage: "how disks are read: nfc, through the export lease; datastore, in ranges; nfc902, at random over port 902 of the host; vddk, by nbdkit with VMware's library; auto chooses"},
		&cli.BoolFlag{Name: "snapshot", Usage: "export a running VM from a temporary snapshot"},
		&cli.BoolFlag{Name: "shutdown", Usage: "shut the guest of a running VM down first, through VMware Tools; powered on again if the export fails"},
		&cli.StringFlag{Name: "shutdown-timeout", Usage: "`TIME` that the guest may take to shut down; 5m when left out"},
		&cli.BoolFlag{Name: "power-off", Usage: "power a running VM off as it runs: with -shutdown, when the guest does not shut down"},
		&cli.StringFlag{Name: "finish", Usage: "`WHAT` is done to the source once all has succeeded: nothing, or some of tag,rename,disconnect"},
		&cli.BoolFlag{Name: "remove-cdrom", Usage: "take CD/DVD drives out of the VM first; put back if the export fails"},
		&cli.BoolFlag{Name: "overwrite", Usage: "replace what an earlier export left in the output directory"},
		&cli.StringFlag{Name: "output", Usage: "`DIR` to put the files in; made when it is not there"},
		&cli.IntFlag{Name: "parallel", Value: job.DefaultParallelDownloads, Usage: "transfers at a time, 1 to 64", Sources: cli.EnvVars("DOWNLOAD_WORKERS")},
		&cli.BoolFlag{Name: "virtio", Usage: "put disks and NICs on virtio in the libvirt domain; the guest needs the drivers"},
		&cli.BoolFlag{Name: "convert", Usage: "make the guest ready for KVM, by virt-v2v: drivers, boot loader; the domain is on virtio then"},
		&cli.BoolFlag{Name: "keep-ip", Usage: "have the guest keep its addresses, as VMware Tools report them, on its new cards"},
		&cli.BoolFlag{Name: "compress", Usage: "write compressed qcow2 clusters"},
		&cli.StringFlag{Name: "verify", Usage: "`how`: full inflates every grain also where that is not needed to write it, and reads a datastore twice; manifest takes nothing but vSphere's manifest for a proof"},
		&cli.StringSliceFlag{Name: "network-map", Usage: "`PORTGROUP=NETWORK,…`: the libvirt network, or bridge:NAME, for cards on a port group; may be repeated"},
		jobflags.Kit(),
		&cli.StringFlag{Name: "limit", Usage: "bandwidth `RATE` of a VM, such as 200MB/s"},
	}, jobflags.Landing()...)
}

// vddkFlag says where this machine has VDDK. It is of the machine and not of a job, so
// that no job file names a library to be loaded.
func vddkFlag() cli.Flag {
	return &cli.StringFlag{Name: "vddk-libdir", Usage: "`DIR` of VMware's VDDK, vmware-vix-disklib-distrib, for transports vddk and auto; nbdkit loads it", Sources: cli.EnvVars("HYPER2KVM_VDDK_LIBDIR")}
}

// vddk is the VDDK of this machine, nil when none is named.
func (a *app) vddk(cmd *cli.Command) (*vddk.Tool, error) {
	dir, err := local(cmd.String("vddk-libdir"))
	if dir == "" || err != nil {
		return nil, err
	}
	return &vddk.Tool{LibDir: dir}, nil
}

// virtioWinFlag says where this machine has drivers for Windows: as [vddkFlag], of the
// machine and not of a job.
func virtioWinFlag() cli.Flag {
	return &cli.StringFlag{Name: "virtio-win", Usage: "`ISO` with virtio drivers for Windows, for -convert", Sources: cli.EnvVars("VIRTIO_WIN")}
}

// inside are what reaches into guests on this machine.
func (a *app) inside(cmd *cli.Command) (*v2v.Tool, *guestnet.Fish, error) {
	iso, err := local(cmd.String("virtio-win"))
	machine := new(appliance.Machine)
	return &v2v.Tool{VirtioWin: iso, Machine: machine}, &guestnet.Fish{Machine: machine}, err
}

// options makes a job's options of the flags.
func (a *app) options(cmd *cli.Command) (job.Options, error) {
	o, err := jobflags.Options(cmd)
	if err != nil {
		return o, err
	}
	if o.ParallelDownloads == 0 { // which in a job means that it was left out
		return o, cliargs.Usage("-parallel: must be from 1 to %d", job.MaxParallelDownloads)
	}
	if cmd.Name == "check" && slices.Contains(reportFormats, string(o.Format)) {
		o.Format = "" // it is that of the report
	}
	if o.Format == "" {
		p, _, err := a.profile(cmd)
		if err != nil {
			return o, err
		}
		if o.Format, err = profile.DefaultFormat(a.getenv, p, job.FormatOVF); err != nil {
			return o, cliargs.UsageError{Err: err}
		}
	}
	return o, nil
}

// fileOnly refuses flags that say what becomes of a VM where every VM is one of a
// job file, which says so itself.
func fileOnly(cmd *cli.Command, q asked) error {
	if len(q.refs) > 0 {
		return nil
	}
	for _, f := range optionFlags() {
		if name := f.Names()[0]; name != "parallel" && cmd.IsSet(name) { // which the environment may set
			return cliargs.Usage("-%s goes with -vm; with -file it stands in the file", name)
		}
	}
	return nil
}

// outputOf is the output directory that a flag names, as an absolute path.
func outputOf(cmd *cli.Command) (string, error) {
	return local(cmd.String("output"))
}

// local makes an absolute path of one that a person wrote; "" stays.
func local(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	path, err := tilde.Expand(path)
	if err != nil {
		return "", cliargs.UsageError{Err: err}
	}
	return filepath.Abs(path)
}

// definition makes a job of the flags, for the VM that ref names.
func (a *app) definition(cmd *cli.Command, ref string) (job.Definition, error) {
	def := job.Definition{VMPath: ref}
	var err error
	if def.OutputPath, err = outputOf(cmd); err != nil {
		return def, err
	}
	if def.Options, err = a.options(cmd); err != nil {
		return def, err
	}
	return def, validate(def)
}

var errNoVM = errors.New("which VM? give -vm with an inventory path, a name, or a UUID; hyper2kvm list prints them")

// validate applies the rules of job files, in the words of the flags. A job
// without an output directory is one that is only checked.
func validate(def job.Definition) error {
	if def.OutputPath == "" {
		def.OutputPath = "/checked"
	}
	if err := def.WithDefaults().Validate(); err != nil {
		words := strings.NewReplacer("options.parallel_downloads", "-parallel", "options.network_map", "-network-map", "options.on_collision", "-on-collision", "options.shutdown_timeout", "-shutdown-timeout", "options.power_off", "-power-off", "needs shutdown", "needs -shutdown", "options.", "-", "vm_path", "-vm", "output_path", "-output")
		return cliargs.UsageError{Err: errors.New(words.Replace(err.Error()))}
	}
	return nil
}
