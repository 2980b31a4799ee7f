package vspheretest

import (
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// HttpNfcLeaseSetManifestChecksumType asks for another checksum beside SHA-1. It
// counts for the items whose transfer has not begun (F-NFC-12).
func (o *HttpNfcLease) HttpNfcLeaseSetManifestChecksumType(_ *simulator.Context, req *types.HttpNfcLeaseSetManifestChecksumType) soap.HasFault {
	body := new(methods.HttpNfcLeaseSetManifestChecksumTypeBody)
	if like := o.srv.like.Lease; like.SHA256 == findings.Refused || like.SHA256Late == findings.Refused && o.lease.begun() {
		body.Fault_ = simulator.Fault("The operation is not supported, as on hosts older than 6.7.", &types.NotSupported{})
		return body
	}
	if body.Fault_ = o.lease.closedFault(); body.Fault_ != nil {
		return body
	}
	for _, kv := range req.DeviceUrlsToChecksumTypes {
		algorithm := strings.ToLower(kv.Value)
		if algorithm != "sha1" && algorithm != "sha256" {
			body.Fault_ = simulator.Fault("unknown checksum type "+kv.Value, &types.InvalidArgument{InvalidProperty: "deviceUrlsToChecksumTypes"})
			return body
		}
		if !o.lease.setChecksum(kv.Key, algorithm, &o.srv.like.Lease) {
			body.Fault_ = simulator.Fault("unknown device "+kv.Key, &types.InvalidArgument{InvalidProperty: "deviceUrlsToChecksumTypes"})
			return body
		}
	}
	body.Res = new(types.HttpNfcLeaseSetManifestChecksumTypeResponse)
	return body
}

// begun tells whether anything is or was being sent.
func (l *lease) begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.items, func(it *item) bool { return it.started })
}

// setChecksum returns false when the lease has no such key.
func (l *lease) setChecksum(key, algorithm string, like *findings.Lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range l.items {
		if it.key == key {
			counts := like.SHA256
			if it.started {
				counts = like.SHA256Late
			}
			if counts == findings.Honoured {
				it.checksum = algorithm
			}
			return true
		}
	}
	return false
}

// HttpNfcLeaseGetManifest lists the items that were sent in full, with size and
// hash of the stream as sent (F-NFC-12).
func (o *HttpNfcLease) HttpNfcLeaseGetManifest(_ *simulator.Context, _ *types.HttpNfcLeaseGetManifest) soap.HasFault {
	body := new(methods.HttpNfcLeaseGetManifestBody)
	if body.Fault_ = o.lease.closedFault(); body.Fault_ != nil {
		return body
	}
	like := o.srv.like.Lease
	if like.Manifest == findings.Refused {
		body.Fault_ = simulator.Fault("The operation is not supported on the object.", &types.NotSupported{})
		return body
	}
	body.Res = new(types.HttpNfcLeaseGetManifestResponse)
	if like.Manifest != findings.Empty {
		body.Res.Returnval = o.lease.manifest()
	}
	if like.Matches == findings.No {
		for i := range body.Res.Returnval {
			body.Res.Returnval[i].Size++
		}
	}
	return body
}

func (l *lease) manifest() []types.HttpNfcLeaseManifestEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var entries []types.HttpNfcLeaseManifestEntry
	for _, it := range l.items {
		if !complete(it.sent, it.object.size) || time.Now().Before(it.listed) {
			continue
		}
		e := types.HttpNfcLeaseManifestEntry{Key: it.key, Sha1: it.object.sha1, Size: it.object.size}
		switch it.checksum {
		case "sha1":
			e.ChecksumType, e.Checksum = it.checksum, it.object.sha1
		case "sha256":
			e.ChecksumType, e.Checksum = it.checksum, it.object.sha256
		}
		if it.disk != nil {
			e.Disk, e.Capacity, e.PopulatedSize = true, it.disk.capacity, it.populated
		}
		entries = append(entries, e)
	}
	return entries
}

// begin notes that it is being sent, and says how it is answered: an item that was
// asked for before, and disks after the first, may be answered otherwise (F-NFC-13).
func (l *lease) begin(it *item, like *findings.Lease) findings.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	again := it.started
	it.started = true
	if it.disk == nil {
		return findings.Served
	}
	if l.served == nil {
		l.served = it
	}
	switch {
	case l.served != it && like.SecondDisk != findings.Served:
		return like.SecondDisk
	case again:
		return like.SecondFetch
	}
	return findings.Served
}

// markSent notes bytes as sent; the returned function takes that back. A fault may
// keep what is complete with them out of the manifest for a time.
func (l *lease) markSent(s *Server, it *item, from, to int64) (undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it.sent = append(it.sent, span{from, to})
	if it.disk != nil && it.listed.IsZero() && complete(it.sent, it.object.size) {
		it.listed = time.Now()
		if f := s.faults.strike(faultManifest, NFC, l.guest, it.disk.index); f != nil {
			it.listed = it.listed.Add(f.lasts)
		}
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, s := range it.sent {
			if s == (span{from, to}) {
				it.sent = append(it.sent[:i], it.sent[i+1:]...)
				return
			}
		}
	}
}
