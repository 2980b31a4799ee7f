package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/reach"
	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// vcenters turns names of the configuration, and what jobs bring along, into
// addresses and credentials. Passwords are read at
// each use, as package secret does.
type vcenters struct {
	config config.Config
	getenv func(string) string
	logins *logins // may be nil
	// secrets reads the passwords, and remembers what commands said; nil
	// remembers nothing.
	secrets *secret.Reader
	policy  *reach.Policy
	log     *slog.Logger
}

// password reads the password of a vCenter of the configuration.
func (v vcenters) password(ctx context.Context, c config.VCenter) (string, error) {
	r := v.secrets
	if r == nil {
		r = newSecrets(v.config, v.getenv, v.log)
	}
	password, err := r.Read(ctx, c.PasswordSource())
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	return password, nil
}

// newSecrets returns what reads the passwords of a configuration.
func newSecrets(c config.Config, getenv func(string) string, log *slog.Logger) *secret.Reader {
	return secret.NewReader(secret.Options{Getenv: getenv, Log: log, Hidden: c.PasswordVariables()})
}

// names lists where jobs without an address of their own can go.
func (v vcenters) names() []string {
	names := v.config.Names()
	if v.config.DefaultVCenter() == "" && v.getenv("GOVC_URL") != "" {
		names = append(names, "GOVC_URL")
	}
	return names
}

// endpoint says which vCenter a job is for. A job that has a user of its own and
// no address is for the daemon's vCenter, as that user. Its errors are
// [api.ErrUnknownVCenter], [api.ErrNoInventory], or about the configuration.
func (v vcenters) endpoint(def job.Definition) (vsphere.Config, error) {
	switch {
	case def.VCenterURL != "":
		u, err := vsphere.ParseURL(def.VCenterURL)
		if err != nil {
			return vsphere.Config{}, fmt.Errorf("vcenter_url: %w", err)
		}
		return v.gated(vsphere.Config{
			URL: u, Allow: v.policy.Dial(u), Username: def.Username, Password: def.Password,
			Insecure: def.Insecure, Thumbprint: def.Thumbprint, Logger: v.log,
		}), nil
	case def.Username != "":
		cfg, _, err := v.address(def.VCenter)
		if err != nil {
			return cfg, err
		}
		cfg.Username, cfg.Password = def.Username, def.Password
		return v.gated(cfg), nil
	}
	return v.named(def.VCenter)
}

// named is a vCenter of the configuration; "" is the default one, and without
// any the one that the GOVC_ variables name.
func (v vcenters) named(name string) (vsphere.Config, error) {
	cfg, password, err := v.address(name)
	if err != nil {
		return cfg, err
	}
	if cfg.Password, err = password(); err != nil {
		return cfg, err
	}
	return v.reread(v.gated(cfg), name), nil
}

// reread has the password read anew that the vCenter refuses, where it would not
// be in any case.
func (v vcenters) reread(cfg vsphere.Config, name string) vsphere.Config {
	c, named := v.config.VCenters[cmp.Or(name, v.config.DefaultVCenter())]
	if gate := cfg.Gate; named && gate != nil && v.secrets != nil {
		cfg.Gate = func(ctx context.Context, login func(context.Context) error) error {
			err := gate(ctx, login)
			if errors.Is(err, vsphere.ErrLogin) {
				v.secrets.Refused(c.PasswordSource())
			}
			return err
		}
	}
	return cfg
}

// gated has the configuration's logins pass the daemon's gate.
func (v vcenters) gated(cfg vsphere.Config) vsphere.Config {
	if v.logins != nil {
		cfg.Gate = v.logins.gate(cfg)
	}
	return cfg
}

// address is named without the password, which a user of the job's own does
// without.
func (v vcenters) address(name string) (cfg vsphere.Config, password func() (string, error), err error) {
	if name == "" {
		if name = v.config.DefaultVCenter(); name == "" {
			cfg, err := v.fromEnv()
			return cfg, func() (string, error) { return cfg.Password, nil }, err
		}
	}
	c, ok := v.config.VCenters[name]
	if !ok {
		return vsphere.Config{}, nil, api.ErrUnknownVCenter
	}
	u, err := vsphere.ParseURL(c.URL)
	if err != nil {
		return vsphere.Config{}, nil, fmt.Errorf("vCenter %s: url: %w", name, err)
	}
	password = func() (string, error) {
		text, err := v.password(context.Background(), c) // bounded by itself
		if err != nil {
			return "", &passwordError{fmt.Errorf("vCenter %s: %w", name, err)}
		}
		return text, nil
	}
	return vsphere.Config{
		URL: u, Username: c.Username, Insecure: c.Insecure,
		Thumbprint: c.Thumbprint, CAFile: c.CAFile, Datacenter: c.Datacenter, Logger: v.log,
	}, password, nil
}

// passwordError is a password of the configuration that cannot be read, perhaps
// because it is just being replaced.
type passwordError struct{ error }

func (e *passwordError) Unwrap() error { return e.error }

func (v vcenters) fromEnv() (vsphere.Config, error) {
	if v.getenv("GOVC_URL") == "" {
		if len(v.config.VCenters) > 0 {
			return vsphere.Config{}, fmt.Errorf("%w as the default: name one", api.ErrNoInventory)
		}
		return vsphere.Config{}, fmt.Errorf("%w: add it to the daemon's configuration", api.ErrNoInventory)
	}
	c, err := vsphere.ConfigFromEnv(v.getenv)
	c.Logger = v.log
	return c, err
}

// insecureIgnored returns what to tell a person when a job asks for an unchecked
// certificate in vain, and "" otherwise. The daemon's own vCenter is checked as
// its configuration says: the credentials at stake are the daemon's.
func (v vcenters) insecureIgnored(def job.Definition) string {
	if !def.Insecure || def.VCenterURL != "" {
		return ""
	}
	where := "insecure: true of its vCenter"
	if name := cmp.Or(def.VCenter, v.config.DefaultVCenter()); name == "" {
		if cfg, err := vsphere.ConfigFromEnv(v.getenv); err != nil || cfg.Insecure {
			return ""
		}
		where = "GOVC_INSECURE"
	} else if v.config.VCenters[name].Insecure {
		return ""
	}
	return "insecure changes nothing without vcenter_url: the certificate of the daemon's own vCenter is checked; " +
		where + " in the daemon's configuration leaves it unchecked"
}

// inventory answers the API's questions to a vCenter.
type inventory struct {
	vcenters vcenters
	engine   func() *migrate.Migrator
}

// VMs implements api.Inventory.
func (i inventory) VMs(ctx context.Context, name string, seen func(vms int)) (vms []models.VM, err error) {
	cfg, err := i.vcenters.named(name)
	if err != nil {
		return nil, err
	}
	c, err := vsphere.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := c.Close(context.WithoutCancel(ctx)); cerr != nil {
			i.vcenters.log.Warn("log out of the vCenter", "error", cerr)
		}
	}()
	list, err := c.Survey(ctx, seen)
	if err != nil {
		return nil, err
	}
	vms = make([]models.VM, len(list))
	for n, seen := range list {
		vms[n] = wireVM(seen.VM)
		vms[n].Problem = seen.Problem()
	}
	return vms, nil
}

// Check implements api.Inventory. That there is no such VM is a finding too.
func (i inventory) Check(ctx context.Context, def job.Definition) (models.CheckResult, error) {
	vm, obstacles, err := i.engine().Check(ctx, def)
	var ambiguous *vsphere.AmbiguousError
	switch {
	case errors.Is(err, vsphere.ErrNotFound), errors.As(err, &ambiguous):
		return models.CheckResult{Findings: []models.Finding{{
			Severity: models.SeverityError, Code: "vm-path", Message: err.Error(), Hint: migrate.Hint(err),
		}}}, nil
	case err != nil:
		return models.CheckResult{}, err
	}
	shown := wireVM(vm)
	r := models.CheckResult{VM: &shown}
	if note := i.vcenters.insecureIgnored(def); note != "" {
		r.Findings = append(r.Findings, models.Finding{Severity: models.SeverityWarning, Code: "insecure", Message: note})
	}
	for _, o := range obstacles {
		r.Findings = append(r.Findings, models.Finding{
			Severity: string(o.Severity), Code: o.Code, Message: o.Text, Hint: o.Hint,
		})
	}
	return r, nil
}

func wireVM(vm vsphere.VM) models.VM {
	return models.VM{
		Name: vm.DisplayName(), Path: vm.Path, UUID: vm.InstanceUUID, PowerState: vm.Power,
		GuestOS: vm.GuestFullName, CPUs: vm.CPUs, MemoryBytes: vm.MemoryMiB << 20, DiskBytes: vm.CommittedBytes,
		Disks: vm.DiskCount, Host: vm.HostName, Datastores: vm.Datastores, Firmware: vm.Firmware,
		Template: vm.Template, Snapshots: vm.Snapshots, Connection: vm.ConnectionState,
	}
}
