package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/probe"
	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) probeCommand() *cli.Command {
	return &cli.Command{
		Name:  "probe",
		Usage: "find out what this vSphere does, how fast it is, and how to export from it",
		Description: `It looks at one VM, for about a minute and a half: at the one that -vm names, or
at one that is powered off. It reads, and changes nothing: a VM that is off has an
export lease for some seconds at a time, and cannot be powered on meanwhile.
A VM that runs needs -snapshot, which takes a temporary snapshot and removes it.

The report that -o writes has no names, addresses or ids in it, so that it can be
attached to an issue (docs/probe.md). Ctrl-C ends the probe, with what it has seen.

Exit code 0 when the probe could look, whatever it saw; 1 when something may be
left at vSphere; 3 and 4 as everywhere; 130 interrupted.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "vm", Usage: "look at this `VM`"},
			&cli.BoolFlag{Name: "snapshot", Usage: "take a temporary snapshot of the VM if it runs, and remove it"},
			&cli.StringFlag{Name: "o", Usage: "write the report to `FILE`, as JSON"},
			&cli.DurationFlag{Name: "measure", Value: 3 * time.Second, Usage: "measure each rate for this `TIME`"},
			&cli.StringFlag{Name: "read", Usage: "show the report in `FILE`, and ask no vSphere"},
		},
		Action: cliargs.NoArgs(a.probe),
	}
}

// longestMeasure bounds -measure: a probe is no load test.
const longestMeasure = time.Minute

func (a *app) probe(ctx context.Context, cmd *cli.Command) error {
	a.JSON = cmd.Bool("json")
	if name := cmd.String("read"); name != "" {
		r, err := findings.Read(name)
		if err != nil {
			return err
		}
		return a.showFindings(r)
	}
	measure := cmd.Duration("measure")
	switch {
	case cmd.Bool("snapshot") && cmd.String("vm") == "":
		return cliargs.Usage("of which VM? give -vm with -snapshot")
	case measure <= 0 || measure > longestMeasure:
		return cliargs.Usage("-measure: must be more than 0 and at most %v", longestMeasure)
	}
	write, err := findingsWriter(cmd.String("o"))
	if err != nil {
		return err
	}
	cfg, err := a.config(cmd)
	if err != nil {
		return err
	}
	cfg.Logger = a.logger()
	client, err := vsphere.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer a.hangUp(ctx, client)
	r, err := probe.Run(ctx, client, probe.Options{
		VM: cmd.String("vm"), Snapshot: cmd.Bool("snapshot"), Measure: measure,
		Program: version.String(), Now: time.Now(),
		Tell: a.mention,
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, probe.ErrLeft) {
		return err
	}
	return errors.Join(err, write(r), a.showFindings(r))
}

// mention tells a person what the probe does. It may have names in it, so that it does
// not go where the findings go.
func (a *app) mention(s string) {
	if !a.JSON {
		fmt.Fprintf(a.Err, "INFO %s\n", display.SafeText(s))
	}
}

// showFindings prints a report.
func (a *app) showFindings(r findings.Report) error {
	if a.JSON {
		b, err := r.Encode()
		if err != nil {
			return err
		}
		_, err = a.Out.Write(b)
		return err
	}
	return r.Write(a.Out)
}

// findingsWriter looks whether a report can be written before anything is asked for it.
func findingsWriter(name string) (func(findings.Report) error, error) {
	path, err := local(name)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return func(findings.Report) error { return nil }, nil
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil || !st.IsDir() {
		return nil, cliargs.Usage("-o %s: there is no directory %s", name, filepath.Dir(path))
	}
	return func(r findings.Report) error {
		b, err := r.Encode()
		if err != nil {
			return err
		}
		return atomicfile.Write(path, b, 0o644)
	}, nil
}
