package landing

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/units"
)

func itoa(n int) string { return strconv.Itoa(n) }

// site is what a plan finds at libvirt.
type site struct {
	*conn
	plan Plan

	pool    libvirt.StoragePool
	dir     string // of the pool
	free    int64  // bytes of the pool
	inPlace bool   // the images are in the pool's directory

	suffix int // that makes all names free; 0 and 1 are none

	emulate bool // there is no KVM
	tpm     bool // there is a TPM to be had
}

// fileTypes are the types of pools whose volumes are files.
var fileTypes = []string{"dir", "fs", "netfs"}

// survey looks at libvirt and lists everything that is in the way of the plan. The
// error is one for which nothing could be looked at.
func survey(ctx context.Context, p Plan) (*site, []Problem, error) {
	c, err := dial(ctx, p.URI)
	if err != nil {
		return nil, nil, err
	}
	s := &site{conn: c, plan: p}
	var out []Problem
	looks := []func(context.Context) ([]Problem, error){s.lookAtPool, s.lookAtNames}
	if p.Defines() {
		looks = append(looks, s.lookAtHost, s.lookAtNetworks)
	}
	for _, look := range looks {
		found, err := look(ctx)
		if err != nil {
			c.close()
			return nil, nil, fmt.Errorf("ask %s: %w", p.URI, err)
		}
		out = append(out, found...)
	}
	return s, out, nil
}

func fatal(hint, format string, args ...any) []Problem {
	return []Problem{{Fatal: true, Text: fmt.Sprintf(format, args...), Hint: hint}}
}

func warning(hint, format string, args ...any) []Problem {
	return []Problem{{Text: fmt.Sprintf(format, args...), Hint: hint}}
}

// lookAtPool finds the pool, and whether the images fit into it.
func (s *site) lookAtPool(ctx context.Context) ([]Problem, error) {
	name := s.plan.Pool
	if name == "" {
		return nil, nil
	}
	if strings.HasPrefix(s.plan.URI, "test") {
		return fatal("leave the pool out: the images stay where they are", "libvirt's test driver takes no images into a pool"), nil
	}
	err := s.call(ctx, func() (err error) {
		s.pool, err = s.l.StoragePoolLookupByName(name)
		return err
	})
	if is(err, libvirt.ErrNoStoragePool) {
		return fatal("virsh pool-list --all shows those there are", "there is no storage pool %q at %s", name, s.plan.URI), nil
	}
	if err != nil {
		return nil, err
	}
	var active int32
	var text string
	err = s.call(ctx, func() (err error) {
		if active, err = s.l.StoragePoolIsActive(s.pool); err == nil {
			text, err = s.l.StoragePoolGetXMLDesc(s.pool, 0)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if active == 0 {
		return fatal("start it: virsh pool-start "+name, "the storage pool %q is not active", name), nil
	}
	var pool libvirtxml.StoragePool
	if err := pool.Unmarshal(text); err != nil {
		return nil, err
	}
	if !slices.Contains(fileTypes, pool.Type) || pool.Target == nil {
		return fatal("choose a pool of one of these types, or leave the pool out", "the storage pool %q is of type %s; images can be landed in pools of type %s",
			name, pool.Type, strings.Join(fileTypes, ", ")), nil
	}
	s.dir = pool.Target.Path
	s.inPlace = len(s.plan.Images) > 0 && sameDir(s.dir, filepath.Dir(s.plan.Images[0].Path))
	return s.lookAtSpace(ctx)
}

// sameDir reports whether both paths lead to one directory.
func sameDir(a, b string) bool {
	real := func(path string) string {
		if p, err := filepath.EvalSymlinks(path); err == nil {
			return p
		}
		return filepath.Clean(path)
	}
	return real(a) == real(b)
}

func (s *site) lookAtSpace(ctx context.Context) ([]Problem, error) {
	if s.inPlace {
		return nil, nil
	}
	err := s.call(ctx, func() error {
		if err := s.l.StoragePoolRefresh(s.pool, 0); err != nil { // it may be as it was when it was started
			return err
		}
		_, _, _, free, err := s.l.StoragePoolGetInfo(s.pool)
		s.free = int64(min(free, 1<<62))
		return err
	})
	if err != nil {
		return nil, err
	}
	const hint = "free some space in it, or choose another pool"
	switch p := s.plan; {
	case p.AtLeast > s.free:
		return fatal(hint, "the storage pool %q has %s free, and the images take %s", p.Pool, units.Bytes(s.free), units.Bytes(p.AtLeast)), nil
	case p.AtMost > s.free:
		return warning(hint, "the storage pool %q has %s free, and the images may take %s", p.Pool, units.Bytes(s.free), units.Bytes(p.AtMost)), nil
	}
	return nil, nil
}

// maxSuffix is where the search for a free name ends.
const maxSuffix = 99

// lookAtNames says which names are taken, or finds free ones where that is asked for.
func (s *site) lookAtNames(ctx context.Context) ([]Problem, error) {
	taken, err := s.taken(ctx, 1)
	if err != nil || len(taken) == 0 {
		return nil, err
	}
	if s.plan.OnCollision != job.CollisionSuffix {
		return fatal("remove or rename what is there, or ask for names with a suffix: -on-collision suffix", "taken at %s: %s", s.plan.URI, strings.Join(taken, ", ")), nil
	}
	for s.suffix = 2; s.suffix <= maxSuffix; s.suffix++ {
		free, err := s.taken(ctx, s.suffix)
		if err != nil {
			return nil, err
		}
		if len(free) == 0 {
			return warning("", "taken at %s: %s; the names get the suffix -%d", s.plan.URI, strings.Join(taken, ", "), s.suffix), nil
		}
	}
	return fatal("remove some of them", "taken at %s: %s, also with every suffix to -%d", s.plan.URI, strings.Join(taken, ", "), maxSuffix), nil
}

// taken lists what there is already of the names with a suffix. A UUID has none: with
// a suffix the domain gets a new one.
func (s *site) taken(ctx context.Context, suffix int) (out []string, err error) {
	if s.plan.Defines() {
		name := suffixed(s.plan.Domain, suffix, false)
		switch _, err := s.domainNamed(ctx, name); {
		case err == nil:
			out = append(out, fmt.Sprintf("the domain %q", name))
		case !is(err, libvirt.ErrNoDomain):
			return nil, err
		}
		if d, err := s.domainOf(ctx, s.plan.UUID); suffix < 2 && err == nil && d.Name != name {
			out = append(out, fmt.Sprintf("the UUID %s, by the domain %q", s.plan.UUID, d.Name))
		}
	}
	if s.dir == "" || s.inPlace {
		return out, nil
	}
	for _, image := range s.plan.Images {
		name := suffixed(filepath.Base(image.Path), suffix, true)
		switch _, err := s.volume(ctx, s.pool, name); {
		case err == nil:
			out = append(out, fmt.Sprintf("the volume %q", name))
		case !is(err, libvirt.ErrNoStorageVol):
			return nil, err
		}
	}
	return out, nil
}

func (s *conn) domainNamed(ctx context.Context, name string) (d libvirt.Domain, err error) {
	err = s.call(ctx, func() (err error) {
		d, err = s.l.DomainLookupByName(name)
		return err
	})
	return d, err
}

func (s *conn) domainOf(ctx context.Context, id string) (d libvirt.Domain, err error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return d, err
	}
	err = s.call(ctx, func() (err error) {
		d, err = s.l.DomainLookupByUUID(libvirt.UUID(parsed))
		return err
	})
	return d, err
}

func (s *conn) volume(ctx context.Context, pool libvirt.StoragePool, name string) (v libvirt.StorageVol, err error) {
	err = s.call(ctx, func() (err error) {
		v, err = s.l.StorageVolLookupByName(pool, name)
		return err
	})
	return v, err
}

// Problems lists everything that is in the way of a plan, without changing anything.
// The images need not be there yet.
func Problems(ctx context.Context, p Plan) []Problem {
	s, out, err := survey(ctx, p)
	if err != nil {
		return fatal(hint(err), "%v", err)
	}
	s.close()
	return out
}
