package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/migrate"
)

// inside is what is to be done inside the guest's disks once they are images, and what
// settles whatever an earlier run has begun there.
func (r *run) inside() (*migrate.InsideHere, error) {
	network, err := r.network()
	if err != nil {
		return nil, err
	}
	h := migrate.Here{Base: job.FileBase(r.source.name), Network: network}
	for _, d := range r.source.disks {
		h.Capacities = append(h.Capacities, d.capacity)
	}
	if h.Guest, err = r.machine(); err != nil {
		h.Bare, h.Guest = true, bare(r.source)
	}
	def := job.Definition{VMPath: r.o.Source, OutputPath: r.o.Output, Options: job.Options{
		Format: r.o.Format, Virtio: r.o.Virtio, NetworkMap: r.o.NetworkMap, For: r.o.For, Convert: r.o.Convert, KeepIP: r.o.KeepIP,
	}}
	m := r.o.Migrator
	if m == nil {
		m = new(migrate.Migrator)
	}
	return m.InsideHere(def, h, r.t), nil
}

var errBare = errors.New("nothing describes the machine")

// machine is the machine that the source describes, if that is enough for a domain.
func (r *run) machine() (kvm.Guest, error) {
	if r.source.envelope == nil {
		return kvm.Guest{}, errBare
	}
	guest := guestOf(r.source)
	for i := range guest.Disks {
		guest.Disks[i].Path, guest.Disks[i].Format = filepath.Join(r.o.Output, fmt.Sprint(i)), kvm.Format(r.o.Format) // some name
	}
	_, _, err := kvm.Domain(guest, kvm.Options{NetworkMap: r.o.NetworkMap})
	return guest, err
}

// bare is a machine that has the disks, for virt-v2v, which looks into them alone.
func bare(s *source) kvm.Guest {
	g := kvm.Guest{Name: s.name, CPUs: 1, MemoryMiB: 1024}
	for i := range s.disks {
		g.Disks = append(g.Disks, kvm.Disk{Bus: kvm.SATA, Unit: i})
	}
	return g
}

// maxNetwork bounds the file with the guest's network, in bytes.
const maxNetwork = 1 << 20

// network is what the file NAME.network.json beside the source says, nil when there is
// none or it is not asked for. The package's own export has written it.
func (r *run) network() (*job.GuestNetwork, error) {
	if !r.o.KeepIP || IsExport(r.o.Source) {
		return nil, nil
	}
	path := strings.TrimSuffix(r.o.Source, filepath.Ext(r.o.Source)) + ".network.json"
	f, err := os.Open(path) //nolint:gosec // beside what the user names
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxNetwork+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxNetwork {
		return nil, fault.Permanent(fmt.Errorf("%s has more than %d bytes: it is no such file", path, maxNetwork))
	}
	var n job.GuestNetwork
	switch err := json.Unmarshal(text, &n); {
	case err != nil:
		return nil, fault.Permanent(fault.WithHint(fmt.Errorf("%s: %w", path, err), "it is to be as hyper2kvm export has written it; without -keep-ip it is not read"))
	case n.Version != job.GuestNetworkVersion:
		return nil, fault.Permanent(fmt.Errorf("%s: version %d is not known, %d is", path, n.Version, job.GuestNetworkVersion))
	}
	return &n, nil
}
