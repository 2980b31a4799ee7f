package landing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func hint(err error) string { return fault.Hint(err) }

// lookAtHost finds out whether libvirt's QEMU can run the guest.
func (s *site) lookAtHost(ctx context.Context) ([]Problem, error) {
	if strings.HasPrefix(s.plan.URI, "test") {
		return nil, nil
	}
	machine := "pc"
	if s.plan.UEFI {
		machine = "q35"
	}
	caps, err := s.capabilities(ctx, machine, "kvm")
	var out []Problem
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrAway) {
		s.emulate = true
		if caps, err = s.capabilities(ctx, machine, "qemu"); err == nil {
			out = warning("see that the machine has virtualization and /dev/kvm", "libvirt has no KVM here: QEMU emulates the guest, which is many times slower")
		}
	}
	var refused libvirt.Error
	if errors.As(err, &refused) {
		return fatal("install QEMU: in Debian the package qemu-system-x86", "libvirt has no QEMU for x86_64: %v", err), nil
	}
	if err != nil {
		return nil, err
	}
	if s.plan.UEFI && (caps.OS == nil || !slices.ContainsFunc(caps.OS.Enums, func(e libvirtxml.DomainCapsEnum) bool {
		return e.Name == "firmware" && slices.Contains(e.Values, "efi")
	})) {
		out = append(out, fatal("install it: in Debian the package ovmf", "libvirt has no UEFI firmware for the guest")...)
	}
	return append(out, s.lookAtTPM(caps)...), nil
}

// lookAtTPM says what becomes of the guest's TPM.
func (s *site) lookAtTPM(caps libvirtxml.DomainCaps) []Problem {
	if !s.plan.TPM {
		return nil
	}
	s.tpm = caps.Devices != nil && caps.Devices.TPM != nil && slices.ContainsFunc(caps.Devices.TPM.Enums, func(e libvirtxml.DomainCapsEnum) bool {
		return e.Name == "backendModel" && slices.Contains(e.Values, "emulator")
	})
	if !s.tpm {
		return warning("install swtpm: in Debian the packages swtpm and swtpm-tools", "the guest's system wants a TPM, and libvirt has none without swtpm: it gets none")
	}
	return warning("", "the guest gets a fresh TPM: what was sealed with another one (BitLocker keys, Windows Hello) has to be recovered with its recovery key")
}

func (s *site) capabilities(ctx context.Context, machine, virt string) (caps libvirtxml.DomainCaps, err error) {
	var text string
	err = s.call(ctx, func() (err error) {
		text, err = s.l.ConnectGetDomainCapabilities(nil, libvirt.OptString{"x86_64"}, libvirt.OptString{machine}, libvirt.OptString{virt}, 0)
		return err
	})
	if err == nil {
		err = caps.Unmarshal(text)
	}
	return caps, err
}

// lookAtNetworks sees that each card has where to go.
func (s *site) lookAtNetworks(ctx context.Context) (out []Problem, err error) {
	if len(s.plan.Unmapped) > 0 {
		out = fatal("name one for each, or one for all that are not named: -network-map '"+s.plan.Unmapped[0]+"=NETWORK' or '*=NETWORK'",
			"no network is named for the port groups %s", strings.Join(s.plan.Unmapped, ", "))
	}
	for _, name := range s.plan.Networks {
		var found []Problem
		if bridge, ok := strings.CutPrefix(name, job.BridgePrefix); ok {
			found = bridgeProblem(bridge)
		} else if found, err = s.networkProblem(ctx, name); err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// bridgeProblem looks for a bridge of this machine, where it may not be to be seen
// from a container.
func bridgeProblem(name string) []Problem {
	const where = "/sys/class/net"
	if _, err := os.Stat(filepath.Join(where, name)); errors.Is(err, fs.ErrNotExist) {
		return warning("make it, or name another one", "there is no bridge %q on this machine", name)
	}
	if _, err := os.Stat(filepath.Join(where, name, "bridge")); errors.Is(err, fs.ErrNotExist) {
		return warning("name a bridge", "%q is a network interface of this machine, and no bridge", name)
	}
	return nil
}

func (s *site) networkProblem(ctx context.Context, name string) ([]Problem, error) {
	var active int32
	err := s.call(ctx, func() error {
		network, err := s.l.NetworkLookupByName(name)
		if err == nil {
			active, err = s.l.NetworkIsActive(network)
		}
		return err
	})
	switch {
	case is(err, libvirt.ErrNoNetwork):
		return fatal("virsh net-list --all shows those there are; a bridge of the host is named as "+job.BridgePrefix+"NAME",
			"there is no network %q at %s", name, s.plan.URI), nil
	case err != nil:
		return nil, err
	case active == 0:
		text := fmt.Sprintf("the network %q is not active", name)
		return []Problem{{Fatal: s.plan.Start, Text: text, Hint: "start it: virsh net-start " + name}}, nil
	}
	return nil, nil
}
