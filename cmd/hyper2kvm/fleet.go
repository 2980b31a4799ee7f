package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/tilde"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// vmFlags say which VMs.
func vmFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "vm", Usage: "a VM: inventory `PATH`, name, or UUID; or several, by a pattern of names or paths: 'prod-*', '/DC/vm/.../web*'; may be repeated"},
		&cli.StringFlag{Name: "vms-from", Usage: "read VMs or patterns from `FILE`, one a line; - is stdin"},
		&cli.StringFlag{Name: "file", Usage: "job `FILE`: one job, {jobs: […]}, or a list, as YAML or JSON; - is stdin"},
	}
}

// parallelVMs is how many VMs are exported at a time.
func parallelVMs() cli.Flag {
	return &cli.IntFlag{Name: "parallel-vms", Value: runs.DefaultParallel, Usage: fmt.Sprintf("VMs at a time, 1 to %d", maxVMs)}
}

const maxVMs = 64

// reportFlag is where the closing report goes.
func reportFlag() cli.Flag {
	return &cli.StringFlag{Name: "report", Usage: "write the closing report to `FILE`, which ends in .html or .json"}
}

// asked is what the command line asks for: references to VMs, and jobs of a file.
type asked struct {
	refs []string
	jobs []job.Definition
}

// one reports whether it is a single VM, named and not found by a pattern.
func (q asked) one(cmd *cli.Command) bool {
	return len(q.refs) == 1 && len(q.jobs) == 0 && !cmd.IsSet("vms-from") && !vsphere.IsPattern(q.refs[0])
}

// asked collects what the flags ask for. The standard input is read once.
func (a *app) asked(cmd *cli.Command) (asked, error) {
	q := asked{refs: cmd.StringSlice("vm")}
	if slices.Contains(q.refs, "") {
		return q, cliargs.UsageError{Err: errNoVM}
	}
	from, file := cmd.String("vms-from"), cmd.String("file")
	if from == "-" && file == "-" {
		return q, cliargs.Usage("-vms-from and -file cannot both be the standard input")
	}
	if cmd.IsSet("vms-from") {
		refs, err := a.readRefs(from)
		if err != nil {
			return q, err
		}
		q.refs = append(q.refs, refs...)
	}
	if cmd.IsSet("file") {
		var err error
		if q.jobs, err = a.readJobs(file); err != nil {
			return q, err
		}
	}
	if len(q.refs)+len(q.jobs) == 0 {
		return q, cliargs.UsageError{Err: errNoVM}
	}
	return q, nil
}

// open opens a file that a person named, or the standard input.
func (a *app) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(a.in), nil
	}
	path, err := tilde.Expand(name)
	if err != nil {
		return nil, cliargs.UsageError{Err: err}
	}
	f, err := os.Open(path) //nolint:gosec // the person's own
	if err != nil {
		return nil, cliargs.UsageError{Err: err}
	}
	return f, nil
}

// readRefs reads references to VMs, one a line; empty lines and those that begin with
// # are left out.
func (a *app) readRefs(name string) ([]string, error) {
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var refs []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line != "" && !strings.HasPrefix(line, "#") {
			refs = append(refs, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("-vms-from %s: %w", name, err)
	}
	if len(refs) == 0 {
		return nil, cliargs.Usage("-vms-from %s: no VM is named in it", name)
	}
	return refs, nil
}

// readJobs reads a job file. Its jobs run here: a relative output path, or one that
// begins with ~, is of this machine.
func (a *app) readJobs(name string) ([]job.Definition, error) {
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	batch, err := jobfile.Decode(f, "")
	if err != nil {
		return nil, cliargs.Usage("%s: %w", name, err)
	}
	for i := range batch.Jobs {
		def := &batch.Jobs[i]
		if def.OutputPath, err = local(def.OutputPath); err != nil {
			return nil, err
		}
		*def = def.WithDefaults()
		if err := def.Validate(); err != nil {
			return nil, cliargs.Usage("%s: jobs[%d]: %w", name, i, err)
		}
		if def.VCenter != "" {
			return nil, cliargs.Usage("%s: jobs[%d].vcenter names a vCenter of a daemon's configuration; here it is that of GOVC_URL, or vcenter_url in the job", name, i)
		}
	}
	return batch.Jobs, nil
}

// selectVMs returns the VMs of a list that refs mean, each once, in the order of
// refs. single says that one reference means one VM, by its own name.
func selectVMs(all []vsphere.VM, refs []string, datacenter string) (vms []vsphere.VM, err error) {
	seen := map[string]bool{}
	var problems []error
	for _, ref := range refs {
		found, err := vsphere.Select(all, ref, datacenter)
		if err != nil {
			problems = append(problems, err)
		}
		for _, vm := range found {
			if !seen[vm.Ref] {
				seen[vm.Ref] = true
				vms = append(vms, vm)
			}
		}
	}
	return vms, errors.Join(problems...)
}

// list reads the inventory in a session of its own.
func (a *app) listAll(ctx context.Context, cfg vsphere.Config) ([]vsphere.VM, error) {
	client, err := vsphere.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer a.hangUp(ctx, client)
	vms, err := client.List(ctx)
	if err == nil {
		rememberInventory(cfg.URL.Host, vms)
	}
	return vms, err
}

// fleet makes jobs of what was asked for.
func (a *app) fleet(ctx context.Context, cmd *cli.Command, q asked, cfg vsphere.Config) ([]runs.Spec, error) {
	var specs []runs.Spec
	if len(q.refs) > 0 {
		output, err := outputOf(cmd)
		if err != nil {
			return nil, err
		}
		if output == "" {
			return nil, cliargs.UsageError{Err: errNoOutput}
		}
		o, err := a.options(cmd)
		if err != nil {
			return nil, err
		}
		if err := validate(job.Definition{VMPath: "vm", OutputPath: output, Options: o}); err != nil {
			return nil, err
		}
		all, err := a.listAll(ctx, cfg)
		if err != nil {
			return nil, err
		}
		vms, err := selectVMs(all, q.refs, cfg.Datacenter)
		if err != nil {
			return nil, err
		}
		specs = plan.Jobs(vms, plan.Choices{Output: output, Options: o, Apart: true})
	}
	for _, def := range q.jobs {
		specs = append(specs, runs.Spec{Name: def.Name, Def: def})
	}
	return distinct(specs)
}

// distinct gives jobs whose VMs are called alike names that tell them apart, and
// refuses two for one VM and one directory.
func distinct(specs []runs.Spec) ([]runs.Spec, error) {
	names := map[string]int{}
	places := map[string]bool{}
	for _, s := range specs {
		names[s.Name]++
		place := s.Def.VMPath + "\x00" + s.Def.OutputPath + "\x00" + s.Def.VCenterURL
		if places[place] {
			return nil, cliargs.Usage("%s is to be exported to %s twice: leave one of the jobs out", s.Def.VMPath, s.Def.OutputPath)
		}
		places[place] = true
	}
	for i, s := range specs {
		if names[s.Name] > 1 {
			specs[i].Name = s.Def.VMPath
		}
	}
	return specs, nil
}

var errNoOutput = errors.New("where to? give -output with a directory")
