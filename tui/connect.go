package tui

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pterm/pterm"
	"github.com/pterm/pterm/putils"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/profile"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// bannerWidth is how many cells the large banner takes.
const bannerWidth = 74

// banner greets.
func banner(o Options) {
	width, _ := o.Printer.Size()
	text := ""
	if width >= bannerWidth {
		text, _ = pterm.DefaultBigText.WithLetters(
			putils.LettersFromStringWithStyle("HYPER", pterm.NewStyle(pterm.FgLightCyan)),
			putils.LettersFromStringWithStyle("2KVM", pterm.NewStyle(pterm.FgLightWhite)),
		).Srender()
	}
	if text == "" {
		text = pterm.NewStyle(pterm.FgLightCyan, pterm.Bold).Sprint("hyper2kvm") + "\n"
	}
	fmt.Fprintln(o.Printer.Out, strings.Trim(text, "\n"))
	fmt.Fprintln(o.Printer.Out, pterm.FgGray.Sprintf("version %s · vSphere to KVM", o.Version))
	fmt.Fprintln(o.Printer.Out)
}

// connector connects to a vCenter, asking for what is not known.
type connector struct {
	o     Options
	store *profile.Store
	ask   prompter
}

// How often a person may mistype a password, and an address.
const (
	maxLogins    = 3
	maxAddresses = 3
)

// connect returns a session, and the configuration with which others like it are
// opened.
func (c connector) connect(ctx context.Context) (*vsphere.Client, vsphere.Config, error) {
	cfg, asked, err := c.config(ctx)
	if err != nil {
		return nil, cfg, err
	}
	typed := asked // the address, too
	for logins, addresses := 0, 1; ; {
		session, err := c.dial(ctx, cfg)
		var cert *vsphere.CertificateError
		switch {
		case err == nil:
			c.remember(ctx, cfg, asked)
			c.box(session.About(), cfg)
			return session, cfg, nil
		case errors.As(err, &cert) && !errors.Is(cert.Err, vsphere.ErrThumbprint):
			if err := c.trust(ctx, cert); err != nil {
				return nil, cfg, err
			}
			cfg.Thumbprint, asked = cert.SHA256, true
		case errors.As(err, &cert) && c.o.Thumbprint == "":
			return nil, cfg, fmt.Errorf("%w; if you know that it was renewed, remove the old thumbprint from %s", err, c.store.Path())
		case errors.Is(err, vsphere.ErrLogin) && logins < maxLogins-1:
			c.o.Printer.Error("%s", cell.Safe(err.Error()))
			logins++
			if cfg, err = c.login(ctx, cfg); err != nil {
				return nil, cfg, err
			}
		case typed && addresses < maxAddresses && (errors.Is(err, vsphere.ErrUnreachable) || errors.Is(err, vsphere.ErrNotVSphere)):
			c.o.Printer.Error("%s", cell.Safe(err.Error()))
			addresses++
			if cfg, err = c.address(ctx, cfg); err != nil {
				return nil, cfg, err
			}
		default:
			return nil, cfg, err
		}
	}
}

// address asks for the address again, and for nothing else: user and password were
// typed already.
func (c connector) address(ctx context.Context, cfg vsphere.Config) (vsphere.Config, error) {
	for {
		s, err := c.ask.line(ctx, "vCenter or ESXi host", cell.Safe(cfg.URL.Host))
		if err != nil {
			return cfg, err
		}
		u, err := vsphere.ParseURL(s)
		if err != nil {
			c.o.Printer.Error("%v", err)
			continue
		}
		if s == cell.Safe(cfg.URL.Host) {
			u = cfg.URL // with its path
		}
		u.User = nil
		cfg.URL, cfg.Thumbprint = u, c.o.Thumbprint
		if p, ok, err := c.store.ForHost(u.Host); err == nil && ok && cfg.Thumbprint == "" {
			cfg.Thumbprint = p.Thumbprint
		}
		return cfg, nil
	}
}

// format is what VMs of that vCenter become unless a person says otherwise.
func (c connector) format(cfg vsphere.Config) (job.Format, error) {
	var p profile.Profile
	var err error
	if c.o.Profile != "" {
		p, err = c.store.Named(c.o.Profile)
	} else {
		p, _, err = c.store.ForHost(cfg.URL.Host)
	}
	if err != nil {
		return "", err
	}
	return profile.DefaultFormat(c.o.getenv, p, job.FormatQcow2)
}

func (c connector) dial(ctx context.Context, cfg vsphere.Config) (*vsphere.Client, error) {
	stop := spin(c.o, "Connecting to "+cell.Safe(cfg.URL.Host))
	defer stop()
	return vsphere.Dial(ctx, cfg)
}

// config finds out where to connect and as whom: a profile that was named, the
// environment, or by asking. asked says that a person was.
func (c connector) config(ctx context.Context) (cfg vsphere.Config, asked bool, err error) {
	switch {
	case c.o.Profile != "":
		var p profile.Profile
		if p, err = c.store.Named(c.o.Profile); err == nil {
			cfg, err = p.Config()
		}
	case c.o.getenv("GOVC_URL") != "":
		cfg, err = vsphere.ConfigFromEnv(c.o.getenv)
	default:
		cfg, err = c.choose(ctx)
		asked = true
	}
	if err != nil {
		return cfg, asked, err
	}
	if c.o.Thumbprint != "" {
		cfg.Thumbprint = c.o.Thumbprint
	}
	if cfg.Thumbprint == "" && !cfg.Insecure {
		p, ok, err := c.store.ForHost(cfg.URL.Host)
		if err != nil {
			return cfg, asked, err
		}
		if ok {
			cfg.Thumbprint = p.Thumbprint
		}
	}
	if cfg.Username == "" || cfg.Password == "" {
		asked = asked || cfg.Username == ""
		cfg, err = c.login(ctx, cfg)
	}
	return cfg, asked, err
}

// choose offers the saved profiles, or asks for an address.
func (c connector) choose(ctx context.Context) (vsphere.Config, error) {
	saved, err := c.store.List()
	if err != nil {
		return vsphere.Config{}, err
	}
	out := c.o.Printer.Out
	if len(saved) > 0 {
		fmt.Fprintln(out, "Saved vCenters:")
		for i, p := range saved {
			fmt.Fprintf(out, "  %d) %s  %s\n", i+1, cell.Safe(p.Name), pterm.FgGray.Sprint(cell.Safe(p.User)+"  "+cell.Safe(p.URL)))
		}
	}
	question, fallback := "vCenter or ESXi host", ""
	if len(saved) > 0 {
		question, fallback = "Number, or the address of another", "1"
	}
	for {
		s, err := c.ask.line(ctx, question, fallback)
		if err != nil {
			return vsphere.Config{}, err
		}
		if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= len(saved) {
			return saved[n-1].Config()
		}
		if s == "" {
			continue
		}
		u, err := vsphere.ParseURL(s)
		if err != nil {
			c.o.Printer.Error("%v", err)
			continue
		}
		cfg := vsphere.Config{URL: u}
		if u.User != nil {
			cfg.Username = u.User.Username()
			cfg.Password, _ = u.User.Password()
			u.User = nil
		}
		return cfg, nil
	}
}

// login asks for user and password.
func (c connector) login(ctx context.Context, cfg vsphere.Config) (vsphere.Config, error) {
	var err error
	if cfg.Username == "" || cfg.Password != "" {
		if cfg.Username, err = c.ask.line(ctx, "User name", cell.Safe(cfg.Username)); err != nil {
			return cfg, err
		}
	}
	cfg.Password, err = c.ask.secret(ctx, "Password of "+cell.Safe(cfg.Username))
	return cfg, err
}

// trust shows a certificate and asks whether it is the right one.
func (c connector) trust(ctx context.Context, cert *vsphere.CertificateError) error {
	body := fmt.Sprintf("%s\n\nSubject  %s\nSHA-256  %s\nSHA-1    %s", cell.Safe(cert.Err.Error()), cell.Safe(cert.Subject),
		foldPrint(cert.SHA256), cert.SHA1)
	fmt.Fprintln(c.o.Printer.Out, pterm.DefaultBox.WithTitle(pterm.FgYellow.Sprint("Certificate of "+cell.Safe(cert.Host)+" is not trusted")).Sprint(body))
	ok, err := c.ask.yes(ctx, "Is this thumbprint right? Compare it with the host's own", false)
	switch {
	case err != nil:
		return err
	case !ok:
		return cert
	}
	return nil
}

// foldPrint breaks a SHA-256 thumbprint over two lines.
func foldPrint(s string) string {
	if len(s) < 95 {
		return s
	}
	return s[:48] + "\n         " + s[48:]
}

// remember saves what a person has told. Failing to is no reason to stop.
func (c connector) remember(ctx context.Context, cfg vsphere.Config, asked bool) {
	old, known, err := c.store.ForHost(cfg.URL.Host)
	p := profile.Profile{Name: cfg.URL.Host, URL: cfg.URL.String(), User: cfg.Username, Thumbprint: cfg.Thumbprint}
	if known {
		p.Name, p.Format = old.Name, old.Format
	}
	if !asked || c.o.Thumbprint != "" || err != nil || known && old == p {
		return
	}
	if p.Thumbprint == "" {
		if ok, err := c.ask.yes(ctx, "Remember this vCenter and user? The password is never saved", true); err != nil || !ok {
			return
		}
	}
	if err := c.store.Save(p); err != nil {
		c.o.Printer.Warning("%v", err)
		return
	}
	c.o.Printer.Info("Remembered in %s, without the password", c.store.Path())
}

// box says where one is connected.
func (c connector) box(a vsphere.About, cfg vsphere.Config) {
	kind := "ESXi host"
	if a.VCenter {
		kind = "vCenter"
	}
	trusted := "by its authority"
	switch {
	case cfg.Thumbprint != "":
		trusted = "by its thumbprint"
	case cfg.Insecure:
		trusted = pterm.FgYellow.Sprint("not checked (GOVC_INSECURE)")
	case cfg.URL.Scheme == "http":
		trusted = pterm.FgYellow.Sprint("no encryption")
	}
	rows := [][2]string{
		{kind, cell.Safe(cfg.URL.Host)},
		{"Product", cell.Safe(a.FullName)},
		{"User", cell.Safe(cfg.Username)},
		{"Certificate", trusted},
	}
	printBox(c.o, "Connected", rows)
}

func printBox(o Options, title string, rows [][2]string) {
	var lines []string
	for _, r := range rows {
		if r[1] != "" {
			lines = append(lines, pterm.FgGray.Sprint(cell.Fit(r[0], 12))+" "+r[1])
		}
	}
	fmt.Fprintln(o.Printer.Out, pterm.DefaultBox.WithTitle(pterm.FgLightGreen.Sprint(title)).Sprint(strings.Join(lines, "\n")))
}

// greetDaemon says which daemon takes the jobs.
func greetDaemon(ctx context.Context, o Options, d *client.Client) error {
	stop := spin(o, "Connecting to "+d.BaseURL())
	s, err := d.Status(ctx)
	stop()
	if err != nil {
		return err
	}
	printBox(o, "Connected", [][2]string{
		{"Daemon", d.BaseURL()},
		{"Version", cell.Safe(s.Version)},
		{"vCenter", cell.Safe(o.VCenter)},
		{"Jobs", fmt.Sprintf("%d running, %d pending", s.RunningJobs, s.PendingJobs)},
	})
	return nil
}

// listVMs reads the inventory.
func listVMs(ctx context.Context, o Options, inv inventory) ([]vsphere.VM, error) {
	stop := spin(o, "Reading the inventory")
	vms, err := inv.list(ctx)
	stop()
	if err != nil {
		return nil, err
	}
	o.Printer.Success("Found %d virtual machine(s)", len(vms))
	if len(vms) == 0 {
		return nil, errors.New("there is nothing to choose from: this user sees no virtual machine")
	}
	return vms, nil
}

// spin shows that something takes its time. stop takes it off the screen.
func spin(o Options, text string) (stop func()) {
	s, err := pterm.DefaultSpinner.WithWriter(o.Printer.Out).WithRemoveWhenDone().Start(text)
	if err != nil {
		fmt.Fprintln(o.Printer.Out, text)
		return func() {}
	}
	return func() { _ = s.Stop() }
}
