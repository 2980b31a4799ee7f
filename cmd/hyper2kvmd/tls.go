package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/pki"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// daemonUser is the user that the unit runs the daemon as.
const daemonUser = "hyper2kvm"

// tlsCommand makes and shows certificates.
func tlsCommand(p *terminal.Printer, getenv func(string) string) *cli.Command {
	t := tlsTool{p, getenv}
	hosts := &cli.StringSliceFlag{Name: "host", Usage: "`NAME` or IP address under which clients reach the daemon; may be given several times"}
	return &cli.Command{
		Name:  "tls",
		Usage: "make certificates for those who have none, and show them",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "`DIRECTORY` of the certificates; " + filepath.Dir(config.DefaultPath) + "/tls for root"},
			&cli.StringFlag{Name: "owner", Usage: "`USER` who gets the keys, so that the daemon can read them; " + daemonUser + " for root, if there is that user"},
		},
		Commands: []*cli.Command{
			{Name: "init", Usage: "make an authority and a certificate for the daemon", Flags: []cli.Flag{hosts}, Action: cliargs.NoArgs(t.create)},
			{Name: "renew", Usage: "make a new certificate for the daemon, which takes it without a restart", Flags: []cli.Flag{hosts}, Action: cliargs.NoArgs(t.renew)},
			{Name: "client", Usage: "make a certificate for a client called NAME", ArgsUsage: "NAME", Action: t.client},
			{Name: "show", Usage: "show what the certificates are for, and how long", Action: cliargs.NoArgs(t.show)},
		},
	}
}

type tlsTool struct {
	*terminal.Printer
	getenv func(string) string
}

// dir is the directory of the flags.
func (t tlsTool) dir(cmd *cli.Command) (pki.Dir, error) {
	d := pki.Dir{Path: cmd.String("dir"), Now: time.Now()}
	root := os.Geteuid() == 0
	if d.Path == "" {
		d.Path = filepath.Join(filepath.Dir(config.DefaultPath), "tls")
		if !root {
			d.Path = filepath.Join(cmp.Or(t.getenv("XDG_CONFIG_HOME"), filepath.Join(t.getenv("HOME"), ".config")), "hyper2kvm", "tls")
		}
	}
	var err error
	if d.Path, err = filepath.Abs(d.Path); err != nil {
		return d, err
	}
	name := cmd.String("owner")
	if name == "" && !root {
		return d, nil
	}
	u, err := user.Lookup(cmp.Or(name, daemonUser))
	if err != nil {
		if name == "" {
			return d, nil
		}
		return d, cliargs.Usage("-owner: no such user: %s", name)
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	d.Owner = &pki.Owner{UID: uid, GID: gid}
	return d, errors.Join(uerr, gerr)
}

// hostsOf are the hosts of the flags.
func hostsOf(cmd *cli.Command) ([]string, error) {
	hosts := cmd.StringSlice("host")
	for _, h := range hosts {
		if err := pki.CheckHost(h); err != nil {
			return nil, cliargs.Usage("-host: %w", err)
		}
	}
	return hosts, nil
}

func (t tlsTool) create(_ context.Context, cmd *cli.Command) error {
	d, err := t.dir(cmd)
	if err != nil {
		return err
	}
	hosts, err := hostsOf(cmd)
	if err != nil {
		return err
	}
	machine, _ := os.Hostname() // localhost is one, too
	if len(hosts) == 0 && machine != "" && pki.CheckHost(machine) == nil {
		hosts = append(hosts, machine)
	}
	for _, h := range []string{"localhost", "127.0.0.1", "::1"} {
		if !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	made, err := d.Init("hyper2kvm authority of "+cmp.Or(machine, hosts[0]), hosts)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; nothing was changed: renew it with hyper2kvmd tls renew -dir %s", err, d.Path)
	}
	if err != nil {
		return err
	}
	if made {
		t.Success("Made an authority: %s, and its key, which stays secret: %s", d.File("ca.crt"), d.File("ca.key"))
	}
	t.Success("Made a certificate for %s: %s, with its key %s", strings.Join(hosts, ", "), d.File("server.crt"), d.File("server.key"))
	_, _ = fmt.Fprintf(t.Out, `
Put this into the configuration of hyper2kvmd (%s), and restart it:

    listen:
      addrs: ["http://localhost:8080", "0.0.0.0:8443"]
      cert_file: %s
      key_file: %s

and make a token with hyper2kvmd token create. Copy %s to every client:

    h2kvmctl -daemon https://%s:8443 -ca-file ca.crt -token-file TOKEN status

Whoever has ca.key can pass for the daemon. It is needed again only for hyper2kvmd tls renew
and tls client: keep it somewhere safe.
`, config.DefaultPath, d.File("server.crt"), d.File("server.key"), d.File("ca.crt"), bracketed(hosts[0]))
	return nil
}

func (t tlsTool) renew(_ context.Context, cmd *cli.Command) error {
	d, err := t.dir(cmd)
	if err != nil {
		return err
	}
	hosts, err := hostsOf(cmd)
	if err != nil {
		return err
	}
	if err := d.Renew(hosts); err != nil {
		return err
	}
	c, err := d.Certificate("server.crt")
	if err != nil {
		return err
	}
	t.Success("Renewed %s until %s. A daemon that runs takes it with the next client", d.File("server.crt"), c.NotAfter.Format(time.DateOnly))
	return nil
}

func (t tlsTool) client(_ context.Context, cmd *cli.Command) error {
	name := cmd.Args().First()
	if cmd.Args().Len() != 1 {
		return cliargs.Usage("%s needs the name of one client", cmd.FullName())
	}
	if err := pki.CheckName(name); err != nil {
		return cliargs.UsageError{Err: err}
	}
	d, err := t.dir(cmd)
	if err != nil {
		return err
	}
	if err := d.Client(name); err != nil {
		return err
	}
	t.Success("Made a certificate for the client %s: %s, with its key %s", name, d.File(name+".crt"), d.File(name+".key"))
	_, _ = fmt.Fprintf(t.Out, `
Put this into the configuration of hyper2kvmd, with the role it is to have (viewer, operator, admin):

    listen:
      client_ca: %s
      client_roles:
        %s: operator

and move both files and ca.crt to the client:

    h2kvmctl -daemon https://HOST:8443 -ca-file ca.crt -cert-file %[2]s.crt -key-file %[2]s.key status
`, d.File("ca.crt"), name)
	return nil
}

// show prints the certificates of the directory, or those of the configuration.
func (t tlsTool) show(_ context.Context, cmd *cli.Command) error {
	d, err := t.dir(cmd)
	if err != nil {
		return err
	}
	files := []string{d.File("ca.crt"), d.File("server.crt")}
	if !cmd.IsSet("dir") {
		c, err := config.Load(cmp.Or(cmd.String("config"), config.DefaultPath))
		if err != nil && (cmd.IsSet("config") || !errors.Is(err, fs.ErrNotExist)) {
			return cliargs.UsageError{Err: err}
		}
		if c.Listen.CertFile != "" {
			files = []string{c.Listen.CertFile, c.Listen.ClientCA}
		}
	}
	rows := [][]string{{"File", "For", "Signed by", "Valid until", "Left", "SHA-256"}}
	for _, f := range files {
		if f == "" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		c, err := pki.ReadCertificate(b)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		rows = append(rows, certificateRow(f, c, time.Now()))
	}
	return t.Table(rows, true)
}

// certificateRow is a certificate for people.
func certificateRow(file string, c *x509.Certificate, now time.Time) []string {
	hosts := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	left := fmt.Sprintf("%d days", int(c.NotAfter.Sub(now).Hours()/24))
	if now.After(c.NotAfter) {
		left = "EXPIRED"
	}
	return []string{
		file, display.SafeText(cmp.Or(strings.Join(hosts, ", "), c.Subject.CommonName)), display.SafeText(c.Issuer.CommonName),
		c.NotAfter.UTC().Format(time.DateOnly), left, fmt.Sprintf("%x", sha256.Sum256(c.Raw)),
	}
}

// bracketed is a host as it stands in a URL.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
