package migrate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// How a disk was verified, as [models.DiskResult] tells it.
const (
	byManifest    = "manifest"      // size and hash are those of the lease's manifest
	byEndOfStream = "end-of-stream" // complete by its own structure; the host has no manifest
)

// How long a run waits for a manifest that does not list a file yet, and how
// often it asks.
const (
	manifestPatience = 3 * time.Second
	manifestPause    = 200 * time.Millisecond
)

// errRefetch: what arrived is not what the manifest tells; once it is fetched
// again.
var errRefetch = errors.New("fetching the disk again")

// verify compares the disk that has arrived with the manifest of its lease
// (F-NFC-12) and, when they agree, enters it into the ledger as finished. A
// host without a manifest leaves the stream's own end marker as the proof. A
// disk that a manifest does not list yet is left for the last call, when every
// disk of the lease has arrived.
func (d *diskRun) verify(ctx context.Context, lease *vsphere.Lease, last bool) error {
	d.arrived = true
	patience := time.Duration(0)
	if last {
		patience = manifestPatience
	}
	entry, err := manifestEntry(ctx, lease, d.item.Key, patience)
	switch {
	case err == nil && entry.Sum == "" && !last:
		return nil
	case errors.Is(err, vsphere.ErrUnsupported), err == nil && entry.Sum == "":
		d.result.Verified = byEndOfStream
		d.file.Event(progress.Warning, "the host's manifest has no checksum of this disk: verified by its end-of-stream marker")
	case err != nil:
		return fmt.Errorf("read the lease's manifest: %w", err)
	default:
		if err := d.compare(ctx, entry); err != nil {
			return err
		}
		d.result.Verified = byManifest
	}
	return d.enter()
}

// enter enters the disk, which is verified, into the ledger as finished.
func (d *diskRun) enter() error {
	counted := d.file.Snapshot()
	d.result.Transferred, d.result.Retries = counted.Received, counted.Retries
	if err := d.r.work.setEntry(d.key(), &diskEntry{
		Part: d.part(), Capacity: d.disk.Capacity, LeaseKey: d.item.Key, Done: true, Result: d.result,
	}); err != nil {
		return err
	}
	d.arrived, d.done = true, true
	d.file.SetPosition(d.disk.Capacity)
	d.file.SetState(progress.Complete)
	return nil
}

// diskNotes tells what a person should know of how the disks came.
func (r *run) diskNotes() []string {
	var notes []string
	for _, d := range r.disks {
		switch {
		case d.viaLease != "":
			notes = append(notes, fmt.Sprintf("%s was read through the export lease and not from the datastore: %s", d.name, d.viaLease))
		case d.result.Verified == bySize:
			notes = append(notes, d.name+" was read from the datastore in ranges, for which vSphere offers no checksum: what is verified is its size")
		case d.result.Verified == byEndOfStream:
			notes = append(notes, d.name+" was verified by its end-of-stream marker: the host's manifest has no checksum of it")
		}
	}
	return notes
}

// manifestEntry returns what the manifest says of the item with that key; the
// zero value when it does not list it. A host may enter a file a moment after
// its last byte has arrived here: with patience, it is asked several times.
func manifestEntry(ctx context.Context, lease *vsphere.Lease, key string, patience time.Duration) (vsphere.ManifestEntry, error) {
	for deadline := time.Now().Add(patience); ; {
		entries, err := lease.Manifest(ctx)
		if err != nil {
			return vsphere.ManifestEntry{}, err
		}
		for _, e := range entries {
			if e.Key == key && e.Sum != "" {
				return e, nil
			}
		}
		if !time.Now().Before(deadline) {
			return vsphere.ManifestEntry{}, nil
		}
		if err := wait(ctx, manifestPause); err != nil {
			return vsphere.ManifestEntry{}, err
		}
	}
}

// compare holds what arrived against the manifest's entry.
func (d *diskRun) compare(ctx context.Context, entry vsphere.ManifestEntry) error {
	got, err := d.digestFor(ctx, entry.Algorithm)
	if err != nil {
		return err
	}
	want := entry.Algorithm + ":" + strings.ToLower(entry.Sum)
	if got == want && (entry.Size <= 0 || entry.Size == d.result.StreamSize) {
		return nil
	}
	mismatch := fmt.Sprintf("received %d bytes with %s, the host says it sent %d bytes with %s",
		d.result.StreamSize, got, entry.Size, want)
	if d.refetched {
		return withHint(fmt.Errorf("%w twice: %s", ErrVerify, mismatch),
			"something between the host and this machine changes bytes: check memory, network cards and proxies")
	}
	d.refetched = true
	d.plain = true // what ranges put together may be what differs
	return fmt.Errorf("%w: %s", errRefetch, mismatch)
}

// digestFor returns the digest of the stream as it arrived. When the manifest
// has another algorithm than was asked for, a stream that was kept is read
// again; one that was decoded has to be fetched again.
func (d *diskRun) digestFor(ctx context.Context, algorithm string) (string, error) {
	if strings.HasPrefix(d.result.Digest, algorithm+":") {
		return d.result.Digest, nil
	}
	if algorithm != algSHA1 && algorithm != algSHA256 {
		return "", permanent{fmt.Errorf("%w: the manifest uses the unknown algorithm %q", ErrVerify, algorithm)}
	}
	if d.r.def.Options.Format == models.FormatOVF {
		return fileDigest(ctx, d.r.work.path(d.part()), algorithm)
	}
	if d.algorithm != "" {
		return "", permanent{fmt.Errorf("%w: the manifest changes its algorithm", ErrVerify)}
	}
	d.algorithm = algorithm
	return "", fmt.Errorf("%w: the manifest has %s, which was not the algorithm asked for", errRefetch, algorithm)
}

// fileDigest hashes a file, as "algorithm:hex".
func fileDigest(ctx context.Context, path, algorithm string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := newHash(algorithm)
	for err == nil && ctx.Err() == nil { // it may be terabytes
		_, err = io.CopyN(h, f, 64<<20)
	}
	if err != io.EOF {
		return "", errors.Join(err, ctx.Err())
	}
	return algorithm + ":" + hex.EncodeToString(h.Sum(nil)), nil
}
