package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// bench holds what the rows share.
type bench struct {
	o    options
	self string // this program
	log  io.Writer
}

func newBench(o options, log io.Writer) (*bench, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, path := range []*string{&o.bin, &o.work, &o.data} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(*path, 0o755); err != nil {
			return nil, err
		}
	}
	return &bench{o: o, self: self, log: log}, nil
}

// say tells what goes on.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// program returns the path of a program that make bench has built.
func (b *bench) program(name string) string { return filepath.Join(b.o.bin, name) }

// machine describes where the figures come from.
func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// contender is one side of a row.
type contender struct {
	name string
	// steps are programs to run one after the other; they write below dir.
	steps func(dir string) [][]string
	// check, when set, judges what a run printed and left in dir.
	check func(dir string, out []byte) error
	// deviation, when set, tells from what a run printed how far it was off
	// the bandwidth it was to have, in percent.
	deviation func(out []byte) (float64, error)
}

// row is one piece of work and what is wanted of it.
type row struct {
	goal   int // 0 for what the table of goals does not have
	work   string
	lab    []string // flags of the lab vCenter; nil means none is needed
	ours   contender
	peer   contender
	bytes  int64 // moved or read, for CPU per GiB; 0 leaves that out
	runs   int   // at most; 0 is as many as were asked for
	wants  []want
	before func(ctx context.Context, l *lab) (env []string, after func(), err error)
	// compare checks ours against the source once, outside the measurement.
	compare func(ctx context.Context, dir string) error
	missing string // why it cannot be measured
	noCPU   bool   // the peer is ours: CPU is not compared
}

// result is what a row gave.
type result struct {
	Goal    int       `json:"goal"`
	Work    string    `json:"work"`
	Peer    string    `json:"peer"`
	Bytes   int64     `json:"bytes"`
	Ours    []sample  `json:"ours"`
	Theirs  []sample  `json:"theirs,omitempty"`
	Wants   []outcome `json:"wants"`
	Missing string    `json:"not_measured,omitempty"`
}

// measure runs both sides of a row in turn.
func (b *bench) measure(ctx context.Context, r row) (result, error) {
	res := result{Goal: r.goal, Work: r.work, Peer: r.peer.name, Bytes: r.bytes, Missing: r.missing}
	if r.missing != "" {
		res.Wants = unmeasured(r)
		return res, nil
	}
	b.say("%s", r.work)
	var env []string
	if r.lab != nil {
		l, err := b.startLab(ctx, r.lab...)
		if err != nil {
			return res, err
		}
		defer l.stop()
		env = l.env
		if r.before != nil {
			more, after, err := r.before(ctx, l)
			if err != nil {
				return res, err
			}
			defer after()
			env = append(env, more...)
		}
	}
	turns := b.o.runs
	if r.runs > 0 {
		turns = min(turns, r.runs)
	}
	for i := range turns + 1 {
		ours, err := b.turn(ctx, r.ours, env, r, i == 0)
		if err != nil {
			return res, err
		}
		theirs := sample{}
		if r.peer.steps != nil {
			if theirs, err = b.turn(ctx, r.peer, env, row{}, false); err != nil {
				return res, err
			}
		}
		if i == 0 && turns > 1 {
			continue // warms caches on both sides
		}
		res.Ours = append(res.Ours, ours)
		if r.peer.steps != nil {
			res.Theirs = append(res.Theirs, theirs)
		}
		if len(res.Ours) == turns {
			break
		}
	}
	res.Wants = judge(r, res.Ours, res.Theirs)
	return res, nil
}

// unmeasured are the goals of a row without figures.
func unmeasured(r row) []outcome {
	var out []outcome
	for _, w := range r.wants {
		out = append(out, outcome{want: w, Goal: w.String()})
	}
	return out
}

// turn is one run of one contender in an empty directory.
func (b *bench) turn(ctx context.Context, c contender, env []string, r row, compare bool) (total sample, err error) {
	dir := filepath.Join(b.o.work, "turn")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return total, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := flush(dir); err != nil {
		return total, err
	}
	for _, argv := range c.steps(dir) {
		s, out, err := measureProcess(ctx, env, expand(argv, env)...)
		if err != nil {
			return total, err
		}
		total = total.then(s)
		if c.check != nil {
			if err := c.check(dir, out); err != nil {
				return total, fmt.Errorf("%s: %w", c.name, err)
			}
		}
		if c.deviation != nil {
			if total.Deviation, err = c.deviation(out); err != nil {
				return total, fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	if compare && r.compare != nil {
		return total, r.compare(ctx, dir)
	}
	return total, nil
}

// expand replaces $NAME in arguments by variables of env. What env does not
// have stays, for a shell.
func expand(argv, env []string) []string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = os.Expand(a, func(name string) string {
			for _, v := range env {
				if value, ok := strings.CutPrefix(v, name+"="); ok {
					return value
				}
			}
			return "$" + name
		})
	}
	return out
}

// verified checks that an export of ours says of every disk that it is what
// the manifest says.
func verified(disks int) func(dir string, out []byte) error {
	return func(_ string, out []byte) error {
		landed, err := landed(out, disks)
		if err != nil {
			return err
		}
		for _, d := range landed {
			if d.Verified != job.ByManifest || d.Resumed {
				return fmt.Errorf("%s was not verified against the manifest", d.File)
			}
		}
		return nil
	}
}

// landed returns the disks of an export of ours that has printed out, when it
// succeeded with that many.
func landed(out []byte, disks int) ([]job.DiskResult, error) {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var last struct {
		Type   string
		Result job.Result
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		return nil, fmt.Errorf("read its result: %w", err)
	}
	if last.Type != "result" || !last.Result.Success || len(last.Result.Disks) != disks {
		return nil, fmt.Errorf("no success with %d disks: %s", disks, lines[len(lines)-1])
	}
	return last.Result.Disks, nil
}
