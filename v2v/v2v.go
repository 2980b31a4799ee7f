// Package v2v makes a guest ready for KVM by virt-v2v: drivers, boot loader, what
// VMware left behind. It runs virt-v2v-in-place on the disks that a libvirt domain names,
// which are overlays as a rule, because a conversion that fails leaves a disk "possibly
// corrupted", as its manual says.
//
// [Tool.Problems] says beforehand what is missing on this machine. [Tool.Convert] runs the
// program as package appliance does: bounded in time, and once more without KVM where KVM
// is broken.
//
// Not promised: that the guest boots. virt-v2v knows the systems that its manual lists.
package v2v

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
)

// Program is what converts.
const Program = "virt-v2v-in-place"

// Defaults of a [Tool]'s times.
const (
	DefaultLaunch = 5 * time.Minute
	DefaultQuiet  = 40 * time.Minute // an initramfs is made without a word, emulated on a busy machine in 13 minutes
	DefaultWhole  = 4 * time.Hour
)

// Tool runs conversions. The zero value works. Do not copy it.
type Tool struct {
	// VirtioWin is the path of the ISO with virtio drivers for Windows; "" is what
	// virt-v2v finds itself.
	VirtioWin string

	Launch time.Duration // without a word before the appliance is up; 0 is DefaultLaunch
	Quiet  time.Duration // without a word after that; 0 is DefaultQuiet
	Whole  time.Duration // in all; 0 is DefaultWhole

	// Machine runs it; nil is one of its own.
	Machine *appliance.Machine

	own appliance.Machine
}

func (t *Tool) machine() *appliance.Machine { return cmp.Or(t.Machine, &t.own) }

// Outcome is what a conversion came to.
type Outcome struct {
	Program string // and its version
	// VirtioDisks and VirtioCards: the guest has the drivers now, and is to have its
	// disks on virtio-blk (vda, vdb, …), its cards on virtio-net.
	VirtioDisks, VirtioCards bool
	SCSI                     bool     // the disks are to be on virtio-scsi (sda, sdb, …)
	Warnings                 []string // printable
}

// Teller hears of a conversion while it runs. Its functions must return soon.
type Teller = appliance.Teller

// virtioWin is the variable that names the ISO to virt-v2v.
const virtioWin = "VIRTIO_WIN"

// Convert converts the guest whose disks domain, a libvirt domain, names. Everything that
// virt-v2v says goes to log. macs are values of its option --mac, for Windows. Errors have advice where the reason is a known one.
func (t *Tool) Convert(ctx context.Context, domain []byte, log io.Writer, tell Teller, macs ...string) (Outcome, error) {
	version, err := t.version(ctx)
	if err != nil {
		return Outcome{}, err
	}
	launch := cmp.Or(t.Launch, DefaultLaunch)
	limits := appliance.Limits{Launch: launch, Emulated: launch, Quiet: cmp.Or(t.Quiet, DefaultQuiet), Whole: cmp.Or(t.Whole, DefaultWhole)}
	var r *reader
	err = t.machine().Run(ctx, limits, tell, func(a *appliance.Attempt) error {
		if a.Number > 1 {
			_, _ = fmt.Fprintln(log, "\nhyper2kvm: once more without KVM")
		}
		r = newReader(tell, log)
		return t.attempt(ctx, a, domain, r, macs)
	})
	if err != nil {
		return Outcome{}, err
	}
	return r.outcome(version), nil
}

// attempt runs the program once.
func (t *Tool) attempt(ctx context.Context, a *appliance.Attempt, domain []byte, r *reader, macs []string) error {
	xml := filepath.Join(a.Dir, "domain.xml")
	if err := os.WriteFile(xml, domain, 0o600); err != nil {
		return err
	}
	// Of a guest with several systems the right one is not known: that is an error.
	args := []string{"--machine-readable", "-v", "--root", "single"}
	for _, mac := range macs {
		args = append(args, "--mac", mac)
	}
	cmd := a.Command(Program, append(args, "-i", "libvirtxml", xml)...)
	if t.VirtioWin != "" {
		cmd.Env = append(cmd.Env, virtioWin+"="+t.VirtioWin)
	}
	cmd.Stdout, cmd.Stderr = r.messages(), r.words()
	err := a.Run(ctx, cmd)
	r.end()
	switch {
	case err != nil:
		return r.explain(err)
	case r.broken != nil:
		return fmt.Errorf("log of the conversion: %w", r.broken)
	}
	return nil
}
