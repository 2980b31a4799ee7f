// Command bench measures hyper2kvm beside the tools that a user would run
// otherwise, in one go on one machine, and prints medians, ratios and goals as a
// table.
//
// Each row of the table is one piece of work. The lab vCenter, a process of its
// own, serves streams that were made beforehand, so that deflating does not
// count. Both contenders then do the work in turn, first once unmeasured, then
// several times; before each turn the file system is flushed, so that nobody
// pays for the other's dirty pages. A ratio is the median of the ratios of the
// turns: what disturbs a machine for some seconds disturbs both halves of a
// turn. Every run of ours must report each disk as verified against the lease's
// manifest (one read from its datastore or over port 902, which have none, as read
// without its holes), and what it wrote is compared with the source disk by qemu-img once
// a row, outside the measurement.
//
// Measured are wall time, CPU time (user and system) and peak memory of the
// process, as wait4 tells them, and the bytes it caused to be written to storage
// (write_bytes of proc(5)'s io, less what was cancelled). The server's CPU time
// is in none of them, though the two cores are shared with it.
//
// A bandwidth limit is judged by the bytes off the wire that our program reports
// as it goes, over every span of ten seconds that the export has.
//
// Not promised: figures that can be compared between runs of this program, or
// between machines. Only ratios within one run mean something. A process's peak
// memory cannot be told below this program's own, some 20 MiB, since the kernel
// counts from the fork on.
//
// The subcommands "prepare" and "decode" are the pieces that it runs as
// processes of their own; "profile" runs one kind of export inside this process
// and writes pprof profiles of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/units"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errUsage marks errors that the flag package has already printed.
var errUsage = errors.New("wrong flags")

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "prepare":
			return prepareCommand(ctx, args[1:], errOut)
		case "decode":
			return decodeCommand(ctx, args[1:], errOut)
		case "profile":
			return profileCommand(ctx, args[1:], out, errOut)
		}
	}
	return benchCommand(ctx, args, out, errOut)
}

// options are the command line of a benchmark.
type options struct {
	bin    string // directory with hyper2kvm, labvcenter and govc
	work   string // directory for outputs
	data   string // directory for prepared disks
	size   int64  // bytes of data in the large disk
	runs   int
	rows   []int // goals to measure; none means all
	sweeps bool
	json   string // file
}

func parse(args []string, errOut io.Writer) (options, error) {
	o := options{runs: 5, size: 2 << 30}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&o.bin, "bin", "build", "`directory` with the programs hyper2kvm, labvcenter and govc")
	fs.StringVar(&o.work, "work", "", "`directory` for what is written while measuring (default a temporary one)")
	fs.StringVar(&o.data, "data", "", "`directory` to keep prepared disks in (default below -work)")
	fs.Func("size", "`bytes` of data in the large disk; other disks are fractions of it (default 2GiB)", func(s string) (err error) {
		o.size, err = units.ParseSize(s)
		return err
	})
	fs.IntVar(&o.runs, "runs", o.runs, "measured `turns` of each row; rows that take long have fewer")
	fs.Func("rows", "measure the rows of these goals only, as in `1,4`; 0 is what has none", func(s string) error {
		for field := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(field))
			if err != nil {
				return fmt.Errorf("%q is no number of a goal", field)
			}
			o.rows = append(o.rows, n)
		}
		return nil
	})
	fs.BoolVar(&o.sweeps, "sweeps", false, "then measure how the cost grows with latency, disks and size")
	fs.StringVar(&o.json, "json", "", "write every sample and the ratios to this `file`")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if fs.NArg() > 0 || o.runs < 1 || o.size < 64<<20 {
		fmt.Fprintln(errOut, "bench: no arguments besides flags; -runs is at least 1, -size at least 64MiB")
		return o, errUsage
	}
	return o, nil
}

// report is everything that was measured, as -json writes it.
type report struct {
	Machine string   `json:"machine"`
	Rows    []result `json:"rows"`
	Sweeps  []sweep  `json:"sweeps,omitempty"`
}

func benchCommand(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	o, err := parse(args, errOut)
	if err != nil {
		return err
	}
	if o.work == "" {
		if o.work, err = os.MkdirTemp("", "hyper2kvm-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()
	}
	if o.data == "" {
		o.data = filepath.Join(o.work, "data")
	}
	b, err := newBench(o, errOut)
	if err != nil {
		return err
	}
	r := report{Machine: machine()}
	rows, err := b.rows(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, row := range rows {
		res, err := b.measure(ctx, row)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the others are worth having all the same
			res.Missing, res.Wants = "it failed", unmeasured(row)
			failed = errors.Join(failed, fmt.Errorf("goal %d, %s: %w", row.goal, row.work, err))
		}
		r.Rows = append(r.Rows, res)
	}
	if o.sweeps {
		if r.Sweeps, err = b.sweeps(ctx); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if err := printReport(out, r); err != nil {
		return err
	}
	if o.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return failed
}
