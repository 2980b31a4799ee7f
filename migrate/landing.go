package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// CodeLibvirt is the code of obstacles at libvirt.
const CodeLibvirt = "libvirt"

// landingStep is the step that lands images and domain at libvirt.
type landingStep struct {
	*run
	here *landingPlan // of an export whose VM is not asked; nil is to be made of the VM
}

func (s *landingStep) phase() progress.Phase { return progress.Landing }

func (s *landingStep) asked() string {
	if s.def.Options.Libvirt == "" {
		return ""
	}
	return s.target().String()
}

func (s *landingStep) target() landing.Target {
	o := s.def.Options
	return landing.Target{URI: o.Libvirt, Pool: o.Pool, Define: o.Define, Start: o.Start, OnCollision: o.OnCollision}
}

// plan is what is to be landed, as far as the VM and the job tell.
func (s *landingStep) plan() landing.Plan {
	if s.here != nil {
		return s.here.Plan
	}
	space := SpaceOf(s.vm, s.def.Options)
	p := landing.Plan{
		Target: s.target(), Domain: s.domain, UUID: strings.ToLower(s.vm.BIOSUUID), Unmapped: s.unmapped(),
		UEFI: s.vm.Firmware == vsphere.EFI, TPM: strings.HasPrefix(s.vm.GuestID, "windows11"),
		AtMost: space.AtMost, AtLeast: space.AtLeast,
	}
	for _, n := range s.vm.NICs {
		network, _ := s.def.Options.Network(n.Network)
		if network == "" && n.Network == "" {
			network = kvm.DefaultNetwork
		}
		if network != "" && !slices.Contains(p.Networks, network) {
			p.Networks = append(p.Networks, network)
		}
	}
	for i := range s.vm.Disks {
		p.Images = append(p.Images, landing.Image{Path: s.work.Final(s.diskName(i))})
	}
	return p
}

func (s *landingStep) obstacles(ctx context.Context) []vsphere.Obstacle {
	var out []vsphere.Obstacle
	for _, p := range landing.Problems(ctx, s.plan()) {
		o := vsphere.Obstacle{Code: CodeLibvirt, Severity: vsphere.SeverityWarning, Text: p.Text, Hint: p.Hint}
		if p.Fatal {
			o.Severity = vsphere.SeverityError
		}
		out = append(out, o)
	}
	return out
}

func (s *landingStep) do(ctx context.Context, f *finished) error {
	p := s.plan()
	if len(f.Result.Disks) != len(p.Images) {
		return fault.Permanent(fmt.Errorf("the export has %d disks, and the VM %d by now", len(f.Result.Disks), len(p.Images)))
	}
	xml, err := s.xml(f)
	if err != nil {
		return err
	}
	copying := make(map[string]*slow)
	defer func() {
		for _, c := range copying {
			c.end()
		}
	}()
	landed, err := landing.Land(ctx, p, xml, func(n landing.Notes) error { return f.note(n) }, landing.Teller{
		Warn: func(text string) { s.note("%s", text) },
		At: func(image string, done, total int64) {
			if copying[image] == nil {
				copying[image] = s.slow(image, "copying it into the storage pool %s", p.Pool)
			}
			copying[image].at(done, total)
			if done == total {
				copying[image].end()
			}
		},
		Wait: func(text string) func() { return s.slow("", "%s", text).end },
	})
	if err != nil {
		return err
	}
	f.Result.Landed = &landed
	s.tellLanded(landed)
	return nil
}

// xml is the exported domain.
func (s *landingStep) xml(f *finished) ([]byte, error) {
	if s.here != nil {
		return s.here.xml, nil
	}
	return os.ReadFile(f.Result.DomainXML)
}

func (s *landingStep) tellLanded(l job.Landed) {
	if l.Pool != "" {
		s.info("", "%d image(s) are in the storage pool %s", len(l.Images), l.Pool)
	}
	switch {
	case l.Answered != "":
		s.info("", "the domain %s runs, and the guest answers (%s)", l.Domain, l.Answered)
	case l.Started:
		s.info("", "the domain %s was started", l.Domain)
	case l.Domain != "":
		s.info("", "the domain %s is defined", l.Domain)
	}
}

func (s *landingStep) settle(ctx context.Context, notes json.RawMessage, result *job.Result) (bool, error) {
	if len(notes) == 0 {
		return false, nil // it changed nothing
	}
	var n landing.Notes
	if err := json.Unmarshal(notes, &n); err != nil {
		return false, fault.Permanent(fmt.Errorf("its notes cannot be read: %w", err))
	}
	landed, done, err := landing.Undo(ctx, n)
	if done && err == nil {
		result.Landed = &landed
	}
	return done, err
}
