package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/ova"
)

// finalPath is where the file called name will be, or what it will be in.
func (r *run) finalPath(name string) string {
	if r.ova() {
		name = r.ovaName()
	}
	return r.work.Final(name)
}

// pack makes an OVA of the files of an OVF package, which are in the work directory,
// and returns its rename. The descriptor stands first and knows the size of every disk,
// and so the tar can be begun only when all disks are here. They grow side by side and
// resume as they do in any format, and are copied now, by the system (copy_file_range
// on Linux). Until the tar has its name the files stay: a crash costs the copy only.
func (r *run) pack(ctx context.Context, files []workdir.Rename) ([]workdir.Rename, error) {
	members, err := r.members(files)
	if err != nil {
		return nil, err
	}
	part := r.ovaName() + ".part"
	f, err := r.work.At(part).OpenFile(os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, workdir.Storage(err)
	}
	total := ova.Size(members)
	packing := r.slow("", "putting the OVA together")
	err = ova.Write(ctx, f, members, func(n int64) { packing.at(n, total) })
	if err == nil {
		err = f.Sync()
	}
	packing.end()
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("OVA: %w", workdir.Storage(err)), r.work.At(part).Remove())
	}
	return []workdir.Rename{{From: part, To: r.ovaName()}}, nil
}

// members are the files of the OVA in their order: descriptor, manifest, and then that
// of the descriptor's references (DSP0243 6.4).
func (r *run) members(files []workdir.Rename) ([]ova.Member, error) {
	text, err := r.readSmall(r.ovfName())
	if err != nil {
		return nil, err
	}
	envelope, err := ova.ParseEnvelope(text)
	if err != nil {
		return nil, fault.Permanent(fmt.Errorf("vCenter's OVF descriptor: %w", err))
	}
	order := map[string]int{r.ovfName(): -2, r.manifestName(): -1}
	for i, ref := range envelope.Files {
		order[ref.Href] = i
	}
	for _, m := range files {
		if _, ok := order[m.To]; !ok {
			return nil, fault.Permanent(fmt.Errorf("vCenter's OVF descriptor does not refer to %s", m.To))
		}
	}
	slices.SortStableFunc(files, func(a, b workdir.Rename) int { return cmp.Compare(order[a.To], order[b.To]) })
	var out []ova.Member
	for _, m := range files {
		st, err := r.work.Stat(m.From)
		if err != nil {
			return nil, err
		}
		out = append(out, ova.Member{Name: m.To, Size: st.Size(), ModTime: st.ModTime(), Open: func() (io.ReadCloser, error) {
			return r.work.At(m.From).Open()
		}})
	}
	return out, nil
}

// readSmall reads a file of the work directory that this program has written.
func (r *run) readSmall(name string) ([]byte, error) {
	f, err := r.work.At(name).Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}
