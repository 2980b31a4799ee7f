package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1" // manifests have it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func rest(ctx context.Context) error { return sleep.For(ctx, pause) }

var errNotReadable = errors.New("the VM runs, and no snapshot freezes its disks")

// withLease opens a lease, keeps it while f runs, and aborts it.
func (p *run) withLease(ctx context.Context, f func(context.Context, *vsphere.Lease) error) (err error) {
	if !p.readable() {
		p.r.Lease.Why = findings.PowerState
		return errNotReadable
	}
	began := time.Now()
	l, err := p.openLease(ctx)
	if err != nil {
		return err
	}
	if p.r.Timings.LeaseMS == 0 {
		p.r.Timings.LeaseMS = ms(time.Since(began))
	}
	keep, stop := context.WithCancel(ctx)
	kept := make(chan error, 1)
	go func() { kept <- l.Keep(keep, nil) }()
	defer func() {
		stop()
		err = errors.Join(err, <-kept)
		p.leave(l.Abort(ctx, "the probe has seen enough"))
	}()
	return f(keep, l)
}

// openLease opens a lease, and notes when that is refused.
func (p *run) openLease(ctx context.Context) (*vsphere.Lease, error) {
	l, err := p.client.OpenLease(ctx, p.target)
	if err == nil {
		p.r.Lease.Opened = findings.Yes
		return l, nil
	}
	var left *vsphere.LeftLeaseError
	if errors.As(err, &left) || errors.Is(err, vsphere.ErrUncertain) {
		p.leave(err)
	}
	if p.r.Lease.Opened == "" && ctx.Err() == nil {
		p.r.Lease.Opened, p.r.Lease.Why = findings.No, reason(err)
	}
	return nil, err
}

// manifest fetches a disk to its end, after SHA-256 was asked for, and compares what
// came with what the host says it has sent (F-NFC-12). It looks also whether the lease
// changes the VM (F-NFC-21), and whether there may be a second one (F-NFC-13).
func (p *run) manifest(ctx context.Context) error {
	before := p.vm.ChangeVersion
	err := p.withLease(ctx, func(ctx context.Context, l *vsphere.Lease) error {
		p.naming(l)
		p.secondLease(ctx)
		asked := l.SetSHA256(ctx)
		entry, err := p.fetch(ctx, l)
		p.r.Lease.SHA256 = checksum(asked, entry)
		return err
	})
	if p.r.Lease.Opened != findings.Yes {
		return err
	}
	if vm, err := p.client.Refresh(ctx, p.vm); err == nil && before != "" {
		p.r.Lease.Version = findings.Kept
		if vm.ChangeVersion != before && p.target.Snapshot.Ref == "" {
			p.r.Lease.Version = findings.Changed
		}
	}
	return err
}

// naming notes how a lease names the host.
func (p *run) naming(l *vsphere.Lease) {
	p.r.Lease.TimeoutS = int(min(l.Timeout().Seconds(), 86400))
	item, err := l.Disk(p.small)
	if err != nil {
		return
	}
	n := l.Naming(item)
	switch {
	case n.Any:
		p.r.Lease.URLs = findings.Wildcard
	case n.ByAddress:
		p.r.Lease.URLs = findings.ByAddress
	default:
		p.r.Lease.URLs = findings.ByName
	}
	p.r.Lease.Pinned = pinned(n.Thumbprint, n.Certificate)
}

func pinned(thumbprint, certificate bool) findings.Answer {
	switch {
	case thumbprint && certificate:
		return findings.Both
	case thumbprint:
		return findings.Thumbprint
	case certificate:
		return findings.Certificate
	}
	return findings.None
}

// secondLease tries to open another lease on the VM.
func (p *run) secondLease(ctx context.Context) {
	second, err := p.client.OpenLease(ctx, p.target)
	var left *vsphere.LeftLeaseError
	switch {
	case err == nil:
		p.r.Lease.SecondLease = findings.Granted
		p.leave(second.Abort(ctx, "the probe has seen enough"))
	case errors.As(err, &left), errors.Is(err, vsphere.ErrUncertain):
		p.leave(err)
	case errors.Is(err, vsphere.ErrBusy), errors.Is(err, vsphere.ErrNotExportable):
		p.r.Lease.SecondLease = findings.Refused
	}
}

// fetch reads the small disk's stream to its end and returns what the manifest has of
// it, nil for nothing.
func (p *run) fetch(ctx context.Context, l *vsphere.Lease) (*vsphere.ManifestEntry, error) {
	item, err := l.Disk(p.small)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	body, err := openPatiently(ctx, func() (io.ReadCloser, error) { return l.Source(item).Open(ctx, 0, -1) })
	if err != nil {
		return nil, err
	}
	defer body.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(body, first); err != nil {
		return nil, err // nothing comes
	}
	if p.r.Timings.FirstByteMS == 0 {
		p.r.Timings.FirstByteMS = ms(time.Since(began))
	}
	sums := map[string]hash.Hash{"sha1": sha1.New(), "sha256": sha256.New()}
	n, err := io.Copy(io.MultiWriter(sums["sha1"], sums["sha256"]), io.LimitReader(io.MultiReader(bytes.NewReader(first), body), p.o.Whole+1))
	switch {
	case err != nil:
		return nil, err
	case n > p.o.Whole:
		p.o.Tell("the stream of the smallest disk is longer than is fetched for its manifest")
		return nil, nil
	}
	entry, err := p.listed(ctx, l, item.Key)
	switch {
	case err != nil:
		if errors.Is(err, vsphere.ErrUnsupported) {
			p.r.Lease.Manifest = findings.Refused
		}
		return nil, err
	case entry == nil:
		p.r.Lease.Manifest = cmp.Or(p.r.Lease.Manifest, findings.Empty) // one lease's is enough
		return nil, nil
	}
	p.r.Lease.Manifest = findings.Listed
	sum := sums[entry.Algorithm]
	if matches := entry.Size == n && sum != nil && hex.EncodeToString(sum.Sum(nil)) == entry.Sum; p.r.Lease.Matches != findings.No {
		p.r.Lease.Matches = yes(matches)
	}
	return entry, nil
}

// listed waits until the manifest has the item; nil when it does not come.
func (p *run) listed(ctx context.Context, l *vsphere.Lease, key string) (*vsphere.ManifestEntry, error) {
	for began := time.Now(); ; {
		entries, err := l.Manifest(ctx)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(entries, func(e vsphere.ManifestEntry) bool { return e.Key == key })
		if i >= 0 {
			if p.r.Timings.ManifestMS == 0 {
				p.r.Timings.ManifestMS = ms(time.Since(began))
			}
			return &entries[i], nil
		}
		if time.Since(began) >= p.o.Manifest {
			return nil, nil
		}
		if err := rest(ctx); err != nil {
			return nil, err
		}
	}
}

// checksum is what became of asking for SHA-256.
func checksum(asked error, entry *vsphere.ManifestEntry) findings.Answer {
	switch {
	case errors.Is(asked, vsphere.ErrUnsupported):
		return findings.Refused
	case asked != nil || entry == nil:
		return ""
	case entry.Algorithm == "sha256":
		return findings.Honoured
	}
	return findings.Ignored
}

// leaseHTTP finds out how a host serves streams (F-NFC-9), and what else it serves
// meanwhile.
func (p *run) leaseHTTP(ctx context.Context) error {
	return p.withLease(ctx, func(ctx context.Context, l *vsphere.Lease) error {
		item, err := l.Disk(p.small)
		if err != nil {
			return err
		}
		source, err := askerOf(l.Source(item))
		if err != nil {
			return err
		}
		if _, err := p.http(ctx, source, &p.r.Lease.HTTP); err != nil {
			return err
		}
		p.r.Lease.SecondFetch = served(ctx, source)
		p.secondDisk(ctx, l, item.Key)
		p.underLease(ctx)
		asked := l.SetSHA256(ctx)
		entry, err := p.fetch(ctx, l)
		p.r.Lease.SHA256Late = checksum(asked, entry)
		return err
	})
}

// secondDisk asks for another disk under the same lease.
func (p *run) secondDisk(ctx context.Context, l *vsphere.Lease, first string) {
	for _, item := range l.Items() {
		if !item.Disk || item.Key == first {
			continue
		}
		if source, err := askerOf(l.Source(item)); err == nil {
			p.r.Lease.SecondDisk = served(ctx, source)
		}
		return
	}
}

// underLease looks whether the other channels serve the disk while a lease is open.
func (p *run) underLease(ctx context.Context) {
	if p.folder != nil {
		p.r.Folder.UnderLease = p.folderServes(ctx)
	}
	if p.r.Port902.Opened == findings.Yes {
		p.r.Port902.UnderLease = p.opens902(ctx, tries)
	}
}

// openPatiently opens again a few times while there is no room.
func openPatiently(ctx context.Context, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	for try := 1; ; try++ {
		body, err := open()
		if err == nil || try == tries || !noRoom(err) {
			return body, err
		}
		if err := rest(ctx); err != nil {
			return nil, err
		}
	}
}
