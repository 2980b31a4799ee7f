package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// profileCase is a kind of export to be profiled.
type profileCase struct {
	lab     []string
	options job.Options
	local   bool // decode a file, without the lab
}

var profileCases = map[string]profileCase{
	"ovf":             {options: job.Options{Format: job.FormatOVF}},
	"raw":             {options: job.Options{Format: job.FormatRaw}},
	"qcow2":           {options: job.Options{Format: job.FormatQcow2}},
	"compress":        {options: job.Options{Format: job.FormatQcow2, Compress: true}},
	"ranged":          {lab: []string{"-profile", "ranged"}, options: job.Options{Format: job.FormatOVF, ParallelDownloads: 8}},
	"decode-raw":      {local: true, options: job.Options{Format: job.FormatRaw}},
	"decode-qcow2":    {local: true, options: job.Options{Format: job.FormatQcow2}},
	"decode-compress": {local: true, options: job.Options{Format: job.FormatQcow2, Compress: true}},
}

// profileCommand runs a case several times in this process and writes profiles
// of CPU time and of allocations. The lab is a process of its own and not in
// them.
func profileCommand(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	names := strings.Join(caseNames(), ", ")
	o := options{}
	fs := flag.NewFlagSet("bench profile", flag.ContinueOnError)
	fs.SetOutput(errOut)
	name := fs.String("case", "qcow2", "what to profile, one `of` "+names)
	dir := fs.String("out", "build", "`directory` for NAME.cpu.pprof and NAME.heap.pprof")
	fs.StringVar(&o.bin, "bin", "build", "`directory` with labvcenter")
	fs.Int64Var(&o.size, "size", 1<<30, "`bytes` of data in the disk")
	fs.IntVar(&o.runs, "runs", 3, "`times` to run it")
	if err := fs.Parse(args); err != nil {
		return errUsage
	}
	c, ok := profileCases[*name]
	if !ok {
		return fmt.Errorf("no case %q: there are %s", *name, names)
	}
	if o.work, err = os.MkdirTemp("", "hyper2kvm-profile-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()
	o.data = filepath.Join(o.work, "data")
	b, err := newBench(o, errOut)
	if err != nil {
		return err
	}
	i, err := b.disk(ctx, dense(o.size))
	if err != nil {
		return err
	}
	work := func() error {
		return decode(ctx, i.stream, filepath.Join(o.work, "image"), string(c.options.Format), c.options.Compress, false)
	}
	if !c.local {
		l, err := b.startLab(ctx, append(vm("guest", i, 1), c.lab...)...)
		if err != nil {
			return err
		}
		defer l.stop()
		work = func() error { return exportHere(ctx, l, filepath.Join(o.work, "export"), c.options) }
	}
	base := filepath.Join(*dir, *name)
	if err := profiled(base, o.runs, work); err != nil {
		return err
	}
	fmt.Fprintf(out, "go tool pprof -top %s.cpu.pprof\ngo tool pprof -top -sample_index=alloc_space %s.heap.pprof\n", base, base)
	return nil
}

func caseNames() []string {
	var names []string
	for name := range profileCases {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// profiled runs work n times under the profiler.
func profiled(base string, n int, work func() error) (err error) {
	cpu, err := os.Create(base + ".cpu.pprof")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cpu.Close()) }()
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	for range n {
		if err = work(); err != nil {
			break
		}
	}
	pprof.StopCPUProfile()
	if err != nil {
		return err
	}
	heap, err := os.Create(base + ".heap.pprof")
	if err != nil {
		return err
	}
	runtime.GC() // so that the profile has everything up to now
	return errors.Join(pprof.Lookup("heap").WriteTo(heap, 0), heap.Close())
}

// exportHere exports the lab's VM guest within this process, and removes what
// came of it.
func exportHere(ctx context.Context, l *lab, dir string, o job.Options) error {
	cfg, err := vsphere.ConfigFromEnv(l.getenv)
	if err != nil {
		return err
	}
	m := &migrate.Migrator{Endpoint: func(job.Definition) (vsphere.Config, error) { return cfg, nil }}
	_, err = m.Run(ctx, job.Definition{VMPath: "guest", OutputPath: dir, Options: o}, progress.New())
	return errors.Join(err, os.RemoveAll(dir))
}
