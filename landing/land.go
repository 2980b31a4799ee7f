package landing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// Notes is what a landing has changed, or is about to: what [Undo] needs to know.
type Notes struct {
	URI      string   `json:"uri"`
	ID       string   `json:"id"` // of the landing; in the metadata of its domain
	Pool     string   `json:"pool,omitempty"`
	Volumes  []Volume `json:"volumes,omitempty"` // that are not taken in place
	Domain   string   `json:"domain,omitempty"`  // its name, from when it is about to be defined
	UUID     string   `json:"uuid,omitempty"`
	Starting bool     `json:"starting,omitempty"` // it is about to be started, or was
	Paths    []string `json:"paths,omitempty"`    // of the images, as the domain has them
}

// Volume is a volume that a landing makes.
type Volume struct {
	Name string `json:"name"`
	Made bool   `json:"made,omitempty"` // it is the landing's; before that it is about to be made
}

// landed is what the notes say has been landed.
func (n Notes) landed() job.Landed {
	return job.Landed{URI: n.URI, Pool: n.Pool, Domain: n.Domain, UUID: n.UUID, Images: n.Paths, Started: n.Starting}
}

// Land does what a plan says with the exported domain xml, whose disks are the plan's
// images. What it is about to change it notes first; when that fails, it goes no
// further. What it has changed when it fails is for [Undo].
//
// A guest that has been started is watched for as long as the plan's patience, or until ctx ends:
// that it does not answer is not an error.
func Land(ctx context.Context, p Plan, xml []byte, note func(Notes) error, tell Teller) (job.Landed, error) {
	p.AtMost, p.AtLeast = 0, 0 // now they can be told
	for _, image := range p.Images {
		info, err := os.Stat(image.Path)
		if err != nil {
			return job.Landed{}, err
		}
		p.AtLeast += volume.Allocated(info)
	}
	s, problems, err := survey(ctx, p)
	if err != nil {
		return job.Landed{}, err
	}
	defer s.close()
	for _, problem := range problems {
		if problem.Fatal {
			return job.Landed{}, fault.Permanent(fault.WithHint(errors.New(problem.Text), problem.Hint))
		}
	}
	l := &lander{site: s, tell: tell, note: note, notes: Notes{URI: p.URI, ID: uuid.NewString(), Pool: p.Pool}}
	if err := l.placeImages(ctx); err != nil {
		return job.Landed{}, err
	}
	if p.Defines() {
		if err := l.define(ctx, xml); err != nil {
			return job.Landed{}, err
		}
	}
	landed := l.notes.landed()
	if p.Start && !s.driverIsTest() {
		landed.Answered = l.await(ctx)
	}
	return landed, nil
}

// lander is a landing at work.
type lander struct {
	*site
	tell  Teller
	note  func(Notes) error
	notes Notes
}

// placeImages makes volumes of the images, or finds those that they are.
func (l *lander) placeImages(ctx context.Context) error {
	for _, image := range l.plan.Images {
		path := image.Path
		var err error
		switch {
		case l.inPlace:
			path, err = l.volumePath(ctx, filepath.Base(image.Path))
		case l.dir != "":
			path, err = l.copyImage(ctx, image)
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", filepath.Base(image.Path), err)
		}
		l.notes.Paths = append(l.notes.Paths, path)
	}
	if l.dir == "" {
		return nil
	}
	// libvirt looks at what the volumes hold now.
	return l.call(ctx, func() error { return l.l.StoragePoolRefresh(l.pool, 0) })
}

// volumePath is where libvirt has a volume that is there.
func (l *lander) volumePath(ctx context.Context, name string) (path string, err error) {
	err = l.call(ctx, func() error {
		if err := l.l.StoragePoolRefresh(l.pool, 0); err != nil {
			return err
		}
		v, err := l.l.StorageVolLookupByName(l.pool, name)
		if err == nil {
			path, err = l.l.StorageVolGetPath(v)
		}
		return err
	})
	return path, err
}

// copyImage makes a volume of an image, a file of the same size with the same holes.
func (l *lander) copyImage(ctx context.Context, image Image) (path string, err error) {
	f, err := os.Open(image.Path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	// A raw file, whatever it is to hold: libvirt finds out the format when it looks again.
	description := libvirtxml.StorageVolume{
		Name:       suffixed(filepath.Base(image.Path), l.suffix, true),
		Capacity:   &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: uint64(info.Size())},
		Allocation: &libvirtxml.StorageVolumeSize{Unit: "bytes"},
		Target:     &libvirtxml.StorageVolumeTarget{Format: &libvirtxml.StorageVolumeTargetFormat{Type: "raw"}},
	}
	text, err := description.Marshal()
	if err != nil {
		return "", err
	}
	at := len(l.notes.Volumes)
	l.notes.Volumes = append(l.notes.Volumes, Volume{Name: description.Name})
	if err := l.note(l.notes); err != nil {
		return "", err
	}
	var made libvirt.StorageVol
	if err := l.call(ctx, func() (err error) {
		made, err = l.l.StorageVolCreateXML(l.pool, text, 0)
		return err
	}); err != nil {
		if is(err, libvirt.ErrStorageVolExist) { // it is not ours
			l.notes.Volumes = l.notes.Volumes[:at]
			err = errors.Join(err, l.note(l.notes))
		}
		return "", l.full(err)
	}
	l.notes.Volumes[at].Made = true
	if err := l.note(l.notes); err != nil {
		return "", err
	}
	if err := l.upload(ctx, made, f, info.Size(), filepath.Base(image.Path)); err != nil {
		return "", l.full(err)
	}
	err = l.call(ctx, func() (err error) {
		path, err = l.l.StorageVolGetPath(made)
		return err
	})
	return path, err
}

// full gives advice where the pool has no space left, which libvirt says in words.
func (l *lander) full(err error) error {
	if err != nil && strings.Contains(err.Error(), "No space left") {
		return fault.Permanent(fault.WithHint(fmt.Errorf("the storage pool %q is full: %w", l.plan.Pool, err),
			"free some space in it (it had "+units.Bytes(l.free)+" before), or choose another pool"))
	}
	return err
}

// define defines the domain and, if that is asked for, starts it.
func (l *lander) define(ctx context.Context, xml []byte) error {
	d, text, err := l.describe(xml)
	if err != nil {
		return err
	}
	l.notes.Domain, l.notes.UUID = d.Name, d.UUID
	if err := l.note(l.notes); err != nil {
		return err
	}
	var domain libvirt.Domain
	if err := l.call(ctx, func() (err error) {
		domain, err = l.l.DomainDefineXMLFlags(text, libvirt.DomainDefineValidate)
		return err
	}); err != nil {
		return fmt.Errorf("define the domain %q: %w", d.Name, err)
	}
	if !l.plan.Start {
		return nil
	}
	l.notes.Starting = true
	if err := l.note(l.notes); err != nil {
		return err
	}
	if err := l.call(ctx, func() error { return l.l.DomainCreate(domain) }); err != nil {
		return fmt.Errorf("start the domain %q: %w", d.Name, err)
	}
	return nil
}
