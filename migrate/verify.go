package migrate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// errRefetch: what arrived is not what vSphere says it sent, or not what was
// asked for; once it is fetched again.
var errRefetch = errors.New("fetching the disk again")

// verify compares the disk, which has arrived, with the manifest as it is now. A
// disk that it does not list yet, or that cannot be read just now, is left for
// [run.verify], when every disk of the lease is here.
func (l *leaseRoute) verify(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	entries, err := l.lease.Manifest(soon)
	if err != nil && !passing(ctx, err) && !errors.Is(err, vsphere.ErrUnsupported) {
		return fmt.Errorf("read the lease's manifest: %w", leaseError(ctx, err))
	}
	_, err = l.vouched(ctx, entries)
	return err
}

// verify waits until the manifest of lease lists every disk of group that has
// arrived (F-NFC-12), and enters those that agree with it into the ledger as
// finished.
func (r *run) verify(ctx context.Context, lease *vsphere.Lease, group []*diskRun) error {
	var waiting []*diskRun
	for _, d := range group {
		if d.state == arrived {
			waiting = append(waiting, d)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	var again error // why disks are fetched again, under another lease
	check := func(d *diskRun, err error) error {
		begun, failed := d.orBeginAgain(err)
		if begun {
			again = fmt.Errorf("%w: %w", errLater, err)
		}
		return failed
	}
	err := r.awaitManifest(ctx, lease, r.patience, func(entries []vsphere.ManifestEntry) (bool, error) {
		var rest []*diskRun
		for _, d := range waiting {
			listed, err := d.lease.vouched(ctx, entries)
			if err == nil && !listed {
				rest = append(rest, d)
			}
			if err := check(d, err); err != nil {
				return false, err
			}
		}
		waiting = rest
		return len(rest) == 0, nil
	})
	var without *unvouched
	if !errors.As(err, &without) {
		return errors.Join(err, again)
	}
	for _, d := range waiting {
		if err := check(d, d.lease.withoutManifest(ctx, without)); err != nil {
			return err
		}
	}
	return again
}

// settle decides about the disks that have arrived under a lease that is gone,
// also in an earlier run. Nothing that is known of the VM is kept when it has
// changed since.
func (r *run) settle(ctx context.Context) error {
	waits := func(d *diskRun) bool { return d.state == arrived }
	if !r.unlocked && !slices.ContainsFunc(r.disks, waits) {
		return nil
	}
	if err := r.sameState(ctx); err != nil {
		return err
	}
	r.unlocked = false
	for _, d := range r.disks {
		if !waits(d) {
			continue
		}
		if _, err := d.orBeginAgain(d.lease.withoutManifest(ctx, lostManifest)); err != nil {
			return err
		}
	}
	return nil
}

// vouched compares the disk with its entry in the manifest, where there is one
// yet, and enters it as finished when they agree.
func (l *leaseRoute) vouched(ctx context.Context, entries []vsphere.ManifestEntry) (listed bool, err error) {
	entry, listed := entryOf(entries, l.item.Key)
	if !listed {
		return false, nil
	}
	if err := l.compare(ctx, entry); err != nil {
		return true, err
	}
	l.d.result.Verified = job.ByManifest
	return true, l.d.enter()
}

// entryOf finds the entry of the item with that key, if it has a checksum.
func entryOf(entries []vsphere.ManifestEntry, key string) (vsphere.ManifestEntry, bool) {
	for _, e := range entries {
		if e.Key == key && e.Sum != "" {
			return e, true
		}
	}
	return vsphere.ManifestEntry{}, false
}

// withoutManifest verifies the disk by what it carries itself, unless the job
// wants nothing but a manifest.
func (l *leaseRoute) withoutManifest(ctx context.Context, why *unvouched) error {
	d := l.d
	if d.r.def.Options.Verify == job.VerifyManifest {
		if why.final || l.unlisted {
			return withoutManifestError(why)
		}
		if why.verified == job.ByEndOfStream { // what ranges put together may be what the host has no entry for
			l.unlisted, l.plain = true, true
		}
		return fmt.Errorf("%w, because the job asks for -verify manifest: %w", errRefetch, why)
	}
	if err := l.checkGrains(ctx); err != nil {
		return err
	}
	d.result.Verified = why.verified
	d.file.Event(progress.Warning, verifiedBy(why.verified)+": "+why.why)
	return d.enter()
}

// withoutManifestError is for a job that wants a manifest of a host without one.
func withoutManifestError(why error) error {
	return fault.Permanent(fault.WithHint(fmt.Errorf("%w: %w", ErrVerify, why),
		"without -verify manifest, such a disk is verified by the checksum of every grain"))
}

// verifiedBy says how a disk without a manifest was verified.
func verifiedBy(verified job.Verification) string {
	if verified == job.ByGrains {
		return "verified by the checksum of every grain"
	}
	return "verified by its end-of-stream marker and the checksum of every grain"
}

// checkGrains inflates every grain of the disk, and checks its Adler-32, where
// that was not done while it arrived.
func (l *leaseRoute) checkGrains(ctx context.Context) error {
	d := l.d
	if d.inflated {
		return nil
	}
	checking := d.r.slow(d.name, "checking every grain of %s, because no manifest vouches for them", units.Bytes(d.disk.Capacity))
	defer checking.end()
	err := d.inflateAll(ctx, func(pos int64) { checking.at(pos, d.disk.Capacity) })
	if errors.Is(err, disk.ErrCorrupt) || errors.Is(err, disk.ErrTruncated) {
		return l.again(err.Error())
	}
	if err == nil {
		d.inflated = true
	}
	return err
}

// again says that the disk has to be fetched again, as one stream, because what
// arrived is not what was sent.
func (l *leaseRoute) again(mismatch string) error {
	l.plain = true // what ranges put together may be what differs
	return l.d.refetch(mismatch, "the host")
}

// diskNotes tells what a person should know of how the disks came.
func (r *run) diskNotes() []string {
	var notes []string
	for _, d := range r.disks {
		switch {
		case d.detour != "":
			notes = append(notes, fmt.Sprintf("%s was read %s; %s", d.name, d.route.way(), d.detour))
		case d.result.Verified == job.BySize && d.result.Transport == kindNFC902:
			notes = append(notes, d.name+" was read over port 902 of the host, which offers no checksum: what is verified is its size")
		case d.result.Verified == job.BySize && d.result.Transport == kindVDDK:
			notes = append(notes, d.name+" was read by VDDK, which offers no checksum: what is verified is its size")
		case d.result.Verified == job.BySize:
			notes = append(notes, d.name+" was read from the datastore in ranges, for which vSphere offers no checksum: what is verified is its size")
		case d.result.Verified == job.ByEndOfStream:
			notes = append(notes, d.name+" was "+verifiedBy(job.ByEndOfStream)+": the host's manifest has no checksum of it")
		case d.result.Verified == job.ByGrains:
			notes = append(notes, d.name+" was "+verifiedBy(job.ByGrains)+": the host's manifest could not be read any more; with -verify manifest it would be fetched again")
		}
	}
	return notes
}

// compare holds what arrived against the manifest's entry.
func (l *leaseRoute) compare(ctx context.Context, entry vsphere.ManifestEntry) error {
	got, err := l.digestFor(ctx, entry.Algorithm)
	if err != nil {
		return err
	}
	want, size := entry.Algorithm+":"+strings.ToLower(entry.Sum), l.d.result.StreamSize
	if got == want && (entry.Size <= 0 || entry.Size == size) {
		return nil
	}
	return l.again(fmt.Sprintf("received %d bytes with %s, the host says it sent %d bytes with %s", size, got, entry.Size, want))
}

// digestFor returns the digest of the stream as it arrived. When the manifest
// has another algorithm than was asked for, a stream that was kept is read
// again; one that was decoded has to be fetched again.
func (l *leaseRoute) digestFor(ctx context.Context, algorithm string) (string, error) {
	for _, known := range []string{l.d.result.Digest, l.d.sha256} {
		if strings.HasPrefix(known, algorithm+":") {
			return known, nil
		}
	}
	if algorithm != algSHA1 && algorithm != algSHA256 {
		return "", fault.Permanent(fmt.Errorf("%w: the manifest uses the unknown algorithm %q", ErrVerify, algorithm))
	}
	if l.d.r.ovf() {
		return l.d.r.fileDigest(ctx, l.d, algorithm)
	}
	if l.other != "" {
		return "", fault.Permanent(fmt.Errorf("%w: the manifest changes its algorithm", ErrVerify))
	}
	l.algorithm, l.other = algorithm, algorithm
	return "", fmt.Errorf("%w: the manifest has %s, which was not the algorithm asked for", errRefetch, algorithm)
}

// fileDigest hashes the disk's part file, as "algorithm:hex".
func (r *run) fileDigest(ctx context.Context, d *diskRun, algorithm string) (string, error) {
	f, err := r.work.At(d.part()).Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	hashing := r.slow(d.name, "reading the file again for its %s", strings.ToUpper(algorithm))
	defer hashing.end()
	h := newHash(algorithm)
	done := int64(0)
	for err == nil && ctx.Err() == nil { // it may be terabytes
		var n int64
		n, err = io.CopyN(h, f, 64<<20)
		done += n
		hashing.at(done, d.result.StreamSize)
	}
	if err != io.EOF {
		return "", errors.Join(err, ctx.Err())
	}
	return algorithm + ":" + hex.EncodeToString(h.Sum(nil)), nil
}
