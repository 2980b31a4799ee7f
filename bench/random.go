package main

import (
	"context"
	"fmt"
	"math"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// Rows of a disk that is read at random over port 902 of its host.

// randomVM is the lab's flags for a VM whose host has port 902, with raw disk i.
func randomVM(i image, flags ...string) []string {
	return append([]string{"-nfc902", "-vm", "guest=" + i.raw}, flags...)
}

// random is our export of the disk of the VM guest over port 902.
func (b *bench) random(i image, flags ...string) contender {
	c := b.export(1, append([]string{"-format", "qcow2", "-transport", "nfc902"}, flags...)...)
	c.check = func(_ string, out []byte) error {
		_, err := atRandom(out)
		return err
	}
	return c
}

// atRandom is how many bytes of the only disk of an export of ours crossed the wire,
// which must have come over port 902.
func atRandom(out []byte) (int64, error) {
	disks, err := landed(out, 1)
	if err != nil {
		return 0, err
	}
	d := disks[0]
	if d.Transport != string(job.TransportNFC902) || d.Verified != job.BySize || d.Resumed {
		return 0, fmt.Errorf("%s came by %s, verified by %s; want all of it over port 902", d.File, d.Transport, d.Verified)
	}
	return d.Transferred, nil
}

// connections is goal 11.
func (b *bench) connections(i image) row {
	peer := b.random(i, "-parallel", "1")
	peer.name = "ours with 1 connection"
	return row{
		goal: 11, work: "one disk, port 902, 25 MB/s a connection, 8 connections", lab: randomVM(i, "-rate", "25MB/s"), bytes: i.Data,
		ours: b.random(i, "-parallel", "8"), peer: peer, runs: 2, noCPU: true,
		wants: []want{{speedup, 7.5}}, compare: b.same(i, "*.qcow2", "qcow2"),
	}
}

// allocated is goal 12.
func (b *bench) allocated(i image) row {
	ours := b.random(i)
	ours.deviation = func(out []byte) (float64, error) {
		moved, err := atRandom(out)
		return 100 * math.Abs(float64(moved-i.Data)) / float64(i.Data), err
	}
	return row{
		goal: 12, work: fmt.Sprintf("one disk, port 902, 1/%d data: bytes moved", i.Capacity/i.Data), lab: randomVM(i), bytes: i.Data,
		ours: ours, runs: 1, wants: []want{{deviation, 5}}, compare: b.same(i, "*.qcow2", "qcow2"),
	}
}

// distant is goal 13: 0.9 of the rate is 1/0.9 of the time, what an export takes
// besides included.
func (b *bench) distant(i image) row {
	peer := b.random(i, "-parallel", "1")
	peer.name = "ours without latency"
	steps := peer.steps
	peer.steps = func(dir string) [][]string {
		argv := steps(dir)[0]
		return [][]string{append([]string{"env", "GOVC_URL=$NEAR_URL"}, argv...)}
	}
	flags := []string{"-rate", "25MB/s"}
	return row{
		goal: 13, work: "one disk, port 902, 25 MB/s a connection, 50 ms of latency", bytes: i.Data,
		lab:  randomVM(i, append(flags, "-latency", "50ms")...),
		ours: b.random(i, "-parallel", "1"), peer: peer, runs: 1, noCPU: true,
		before: func(ctx context.Context, _ *lab) ([]string, func(), error) {
			near, err := b.startLab(ctx, randomVM(i, flags...)...)
			if err != nil {
				return nil, nil, err
			}
			return []string{"NEAR_URL=" + near.getenv("GOVC_URL")}, near.stop, nil
		},
		wants: []want{{timeRatio, 1 / 0.9}}, compare: b.same(i, "*.qcow2", "qcow2"),
	}
}
