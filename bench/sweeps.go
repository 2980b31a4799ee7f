package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
)

// sweep shows how a cost grows with one thing.
type sweep struct {
	Of     string  `json:"of"`
	Points []point `json:"points"`
}

// point is the cost at one place of a sweep.
type point struct {
	At      string   `json:"at"`
	Bytes   int64    `json:"bytes"`
	Samples []sample `json:"samples"`
}

// sweepRuns is how often each point is measured.
const sweepRuns = 3

// sweeps measures how the cost of our exports grows with the latency of every
// request, the number of disks, their size, and the number of connections on
// which no further byte comes. What such a connection owes is asked for by
// another worker; a single worker waits until it counts as stalled, a minute. A
// connection of the lab stops once, so each of those points has one run.
func (b *bench) sweeps(ctx context.Context) ([]sweep, error) {
	sizes := make([]image, 3)
	for n := range sizes {
		var err error
		if sizes[n], err = b.disk(ctx, dense(b.o.size/8<<n)); err != nil {
			return nil, err
		}
	}
	small, middle := sizes[0], sizes[1]
	type at struct {
		label string
		row   row
	}
	plan := []struct {
		of     string
		points []at
	}{{of: "latency, one disk, one stream"}, {of: "latency, one disk, ranged, 8 workers"},
		{of: "disks at 25 MB/s a stream, 8 at a time"}, {of: "size of a disk, qcow2"},
		{of: "connections that stop, ranged, 50 MB/s a connection"},
		{of: "latency, one disk, port 902, 25 MB/s a connection, 8 connections"}}
	for _, latency := range []string{"0s", "1ms", "10ms", "50ms"} {
		lab := append(vm("guest", middle, 1), "-latency", latency)
		plan[0].points = append(plan[0].points, at{latency, row{lab: lab, ours: b.export(1), bytes: middle.size}})
		lab = append(append([]string(nil), lab...), "-profile", "ranged")
		plan[1].points = append(plan[1].points, at{latency, row{lab: lab, ours: b.export(1, "-parallel", "8"), bytes: middle.size}})
		lab = randomVM(sizes[2], "-rate", "25MB/s", "-latency", latency)
		plan[5].points = append(plan[5].points, at{latency, row{lab: lab, ours: b.random(sizes[2], "-parallel", "8"), bytes: sizes[2].Data}})
	}
	for _, n := range []int{1, 2, 4, 8} {
		lab := append(vm("guest", small, n), "-rate", "25MB/s")
		plan[2].points = append(plan[2].points, at{fmt.Sprint(n), row{lab: lab, ours: b.export(n, "-parallel", "8"), bytes: int64(n) * small.size}})
	}
	for _, i := range sizes {
		plan[3].points = append(plan[3].points, at{fmt.Sprintf("%d MiB", i.Data>>20),
			row{lab: vm("guest", i, 1), ours: b.export(1, "-format", "qcow2"), bytes: i.size}})
	}
	for _, stop := range []struct{ connections, workers int }{{0, 8}, {1, 8}, {4, 8}, {0, 1}, {1, 1}} {
		label := fmt.Sprintf("%d of %d", stop.connections, stop.workers)
		lab := append(vm("guest", middle, 1), "-profile", "ranged", "-rate", "50MB/s")
		for n := range stop.connections {
			at := middle.size * int64(n+1) / int64(stop.connections+1)
			lab = append(lab, "-fault", fmt.Sprintf("stall:at=%d", at))
		}
		ours := b.export(1, "-parallel", fmt.Sprint(stop.workers))
		if stop.workers == 1 { // it goes on within a range, which the lab's manifest does not count as sent
			ours.check = func(_ string, out []byte) error { _, err := landed(out, 1); return err }
		}
		plan[4].points = append(plan[4].points, at{label, row{
			lab: lab, ours: ours, bytes: middle.size, runs: 1, compare: b.same(middle, "*.vmdk", "vmdk"),
		}})
	}
	var out []sweep
	for _, p := range plan {
		s := sweep{Of: p.of}
		for _, a := range p.points {
			a.row.work, a.row.runs = p.of+", "+a.label, cmp.Or(a.row.runs, sweepRuns)
			res, err := b.measure(ctx, a.row)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.row.work, err)
			}
			s.Points = append(s.Points, point{a.label, a.row.bytes, res.Ours})
		}
		out = append(out, s)
	}
	return out, nil
}

func printSweeps(out io.Writer, sweeps []sweep) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range sweeps {
		fmt.Fprintf(w, "\n%s\tseconds\tMB/s\tCPU s/GiB\tpeak MiB\twritten MB\t\n", s.Of)
		for _, p := range s.Points {
			fmt.Fprintf(w, "%s\t%s\t\n", p.At, cost(middle(p.Samples), p.Bytes))
		}
	}
	return w.Flush()
}
