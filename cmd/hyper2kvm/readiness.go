package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/report"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// reportFormats are what check writes a report as.
var reportFormats = []string{"table", "csv", "json", "html"}

// reportFormat is the format of the report that check is asked for, "" for none: by
// -format, which may also be what a VM is to become, or by the name of the file.
func (a *app) reportFormat(cmd *cli.Command) (string, error) {
	name, format := cmd.String("report"), cmd.String("format")
	if slices.Contains(reportFormats, format) {
		return format, nil
	}
	if name == "" {
		return "", nil
	}
	format = strings.TrimPrefix(strings.ToLower(filepath.Ext(name)), ".")
	switch format {
	case "htm":
		return "html", nil
	case "csv", "json", "html":
		return format, nil
	}
	return "", cliargs.Usage("-report %s: the name must end in .html, .csv or .json", name)
}

// readiness reports on many VMs at once, from one walk of the inventory.
func (a *app) readiness(ctx context.Context, cmd *cli.Command, q asked, format string) error {
	o, err := a.options(cmd)
	if err != nil {
		return err
	}
	rate, err := units.ParseRate(cmd.String("rate"))
	if err != nil {
		return cliargs.Usage("-rate: must be a rate such as 25MB/s")
	}
	cfg, err := a.config(cmd)
	if err != nil {
		return err
	}
	client, err := vsphere.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer a.hangUp(ctx, client)
	seen, err := client.Survey(ctx, nil)
	if err != nil {
		return err
	}
	all := make([]vsphere.VM, len(seen))
	for i, s := range seen {
		all[i] = s.VM
	}
	rememberInventory(cfg.URL.Host, all)
	if !cmd.Bool("all") {
		if seen, err = surveyed(seen, all, q, cfg.Datacenter); err != nil {
			return err
		}
	}
	r := report.NewReadiness(seen, report.Options{
		Version: version.String(), VCenter: cfg.URL.Host, Generated: time.Now().Round(time.Second), Rate: rate, Export: o,
	})
	if err := a.writeReadiness(cmd, r, format); err != nil {
		return err
	}
	if r.Ready < r.Total && !cmd.Bool("all") {
		return toldError{&migrate.PreflightError{VM: fmt.Sprintf("%d of %d VMs", r.Total-r.Ready, r.Total)}}
	}
	return nil
}

// surveyed are those of seen that were asked for.
func surveyed(seen []vsphere.Surveyed, all []vsphere.VM, q asked, datacenter string) ([]vsphere.Surveyed, error) {
	refs := slices.Clone(q.refs)
	for _, def := range q.jobs {
		refs = append(refs, def.VMPath)
	}
	vms, err := selectVMs(all, refs, datacenter)
	if err != nil {
		return nil, err
	}
	at := make(map[string]vsphere.Surveyed, len(seen))
	for _, s := range seen {
		at[s.VM.Ref] = s
	}
	out := make([]vsphere.Surveyed, len(vms))
	for i, vm := range vms {
		out[i] = at[vm.Ref]
	}
	return out, nil
}

// writeReadiness writes the report where it is wanted.
func (a *app) writeReadiness(cmd *cli.Command, r report.Readiness, format string) error {
	if format == "" {
		format = "table"
		if a.JSON {
			format = "json"
		}
	}
	name, err := local(cmd.String("report"))
	if err != nil {
		return err
	}
	if name == "" {
		return a.renderReadiness(a.Out, r, format)
	}
	var b strings.Builder
	if format == "table" {
		return cliargs.Usage("-report: a table is for the terminal; take .html, .csv or .json")
	}
	if err := a.renderReadiness(&b, r, format); err != nil {
		return err
	}
	if st, err := os.Stat(filepath.Dir(name)); err != nil || !st.IsDir() {
		return cliargs.Usage("-report %s: there is no directory %s", name, filepath.Dir(name))
	}
	if err := atomicfile.Write(name, []byte(b.String()), 0o644); err != nil {
		return err
	}
	if !a.JSON {
		a.Success("%s; the report is in %s", r.Counts(), name)
	}
	return nil
}

func (a *app) renderReadiness(w io.Writer, r report.Readiness, format string) error {
	switch format {
	case "csv":
		return r.CSV(w)
	case "json":
		return r.JSON(w)
	case "html":
		return r.HTML(w)
	}
	if err := a.Table(r.Table(), true); err != nil {
		return err
	}
	a.Success("%s", r.Counts())
	return nil
}
