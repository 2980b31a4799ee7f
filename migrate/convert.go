package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/overlay"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// CodeConvert is the code of obstacles to a guest conversion.
const CodeConvert = "convert"

// convertPart makes the guest ready for KVM, by virt-v2v on the overlays, and describes
// the machine anew: its disks and cards are on what the guest has drivers for now.
type convertPart struct{ *run }

// convertRoom is what a conversion writes at least, in bytes: a new initramfs, drivers.
const convertRoom = 300 << 20

func (p *convertPart) name() string { return "convert" }
func (p *convertPart) asked() bool  { return p.def.Options.Convert }
func (p *convertPart) room() int64  { return convertRoom }

func (p *convertPart) tool() *v2v.Tool {
	if p.m.V2V != nil {
		return p.m.V2V
	}
	return new(v2v.Tool)
}

func (p *convertPart) obstacles(ctx context.Context) []vsphere.Obstacle {
	guest := v2v.Guest{
		ID: p.vm.GuestID, FullName: p.vm.GuestFullName,
		Running: p.vm.Power != vsphere.PoweredOff && !p.def.Options.Stops(),
	}
	return machineObstacles(CodeConvert, append(p.tool().Problems(ctx), p.tool().About(guest)...))
}

// LogSuffix ends the name of the file with what virt-v2v says.
const LogSuffix = ".v2v.log"

func (r *run) logName() string { return r.work.Base() + LogSuffix }

func (p *convertPart) do(ctx context.Context, g *inside) (err error) {
	if len(g.result.Disks) != len(p.vm.Disks) {
		return fault.Permanent(fmt.Errorf("the export has %d disks, and the VM %d by now", len(g.result.Disks), len(p.vm.Disks)))
	}
	domain, err := p.onOverlays(g)
	if err != nil {
		return err
	}
	// The log is beside the images also when the conversion fails.
	path := p.work.Final(p.logName())
	log, err := p.work.CreateFinal(p.logName())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	p.info("", "converting the guest; virt-v2v's words are in %s", path)
	var doing *progress.Activity
	defer func() {
		if doing != nil {
			doing.End()
		}
	}()
	outcome, err := p.tool().Convert(ctx, domain, log, v2v.Teller{
		Phase: func(text string) {
			p.info("", "conversion: %s", text)
			if doing == nil {
				doing = p.t.Begin("")
			}
			doing.Set("conversion: " + text)
		},
		Info: func(text string) { p.info("", "conversion: %s", text) },
	}, p.windowsMACs()...)
	if err != nil {
		return err
	}
	return p.converted(g, outcome, path)
}

// onOverlays is the domain of the VM as it was, with the overlays for its disks.
func (p *convertPart) onOverlays(g *inside) ([]byte, error) {
	guest := p.guest()
	for i, path := range g.Overlays() {
		guest.Disks[i].Path, guest.Disks[i].Format = path, kvm.QCOW2
	}
	xml, _, err := kvm.Domain(guest, p.kvmOptions())
	return xml, err
}

// converted describes the machine as it is now.
func (p *convertPart) converted(g *inside, o v2v.Outcome, log string) error {
	kind := map[bool]string{true: job.HardwareVirtio, false: job.HardwareKept}
	g.did.Converted = &job.Converted{By: o.Program, Disks: kind[o.VirtioDisks], Cards: kind[o.VirtioCards], Log: log}
	for _, w := range o.Warnings {
		g.did.Notes = append(g.did.Notes, "conversion: "+w)
	}
	if !o.VirtioDisks {
		g.did.Notes = append(g.did.Notes, "conversion: the guest has no virtio drivers; its disks and cards stay on what they were on")
	}
	if p.here != nil && p.here.Bare && o.VirtioDisks {
		bus := map[bool]string{true: "virtio-scsi", false: "virtio-blk"}[o.SCSI]
		g.did.Notes = append(g.did.Notes, "conversion: nothing describes the machine; give it its disks on "+bus+" and, where it has the driver, its cards on virtio-net")
	}
	options := p.kvmOptions()
	options.VirtioBlk, options.VirtioNet = o.VirtioDisks && !o.SCSI, o.VirtioCards
	options.Virtio = options.Virtio || o.SCSI
	files, notes, err := p.machineFiles(options)
	if err != nil {
		return err
	}
	g.did.Described = notes
	for _, f := range files {
		if err := p.work.WriteFile(f.name, f.text); err != nil {
			return err
		}
		g.Replace(overlay.File{From: p.inWork(f.name), To: f.name})
	}
	return nil
}

// aboutMachine begins the notes of what describes the machine.
var aboutMachine = []string{"libvirt domain, ", "landing kit "}

// redescribed are notes with those of a new description in place of the old one's.
func redescribed(notes, described []string) []string {
	return append(slices.DeleteFunc(slices.Clone(notes), func(n string) bool {
		return slices.ContainsFunc(aboutMachine, func(p string) bool { return strings.HasPrefix(n, p) })
	}), described...)
}
