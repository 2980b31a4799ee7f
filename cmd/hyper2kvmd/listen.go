package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
)

// socketName is the unix socket in the directory that systemd made for it.
const socketName = "hyper2kvmd.sock"

// listenFlags say where the daemon can be reached.
func listenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "addr", Usage: "listen on `HOST:PORT`, localhost:8080 unless configured; may be given several times, or as none"},
		&cli.StringFlag{Name: "socket", Usage: "listen on the unix socket `PATH` as well; or none"},
		&cli.StringSliceFlag{
			Name: "allowed-host", Aliases: []string{"insecure-listen"}, Validator: checkAllowedHosts,
			Usage: "answer to the name `HOST` as well, under which a proxy asks; may be given several times",
		},
	}
}

// checkAllowedHosts refuses what cannot be the name of a host, such as another flag
// after -insecure-listen, which took no value before.
func checkAllowedHosts(hosts []string) error {
	for _, h := range hosts {
		if err := config.CheckAllowedHost(h); err != nil || h == "true" || h == "false" {
			return errors.New("want the name of a host under which a proxy asks for the daemon, such as export.example.com. " +
				"-insecure-listen does not switch the check of the Host header off any more, which let web pages in; " +
				"an address that other machines reach needs TLS (hyper2kvmd tls init) and a token (hyper2kvmd token create) now")
		}
	}
	return nil
}

// listenOptions are where to listen, of flags, file and what systemd says.
func listenOptions(cmd *cli.Command, c config.Config, getenv func(string) string) (listen.Options, error) {
	l := c.Listen
	o := listen.Options{
		Socket:       cmp.Or(cmd.String("socket"), l.Socket, systemdSocket(getenv)),
		SocketGroup:  l.SocketGroup,
		Addrs:        cmd.StringSlice("addr"),
		TLS:          listen.Files{Cert: l.CertFile, Key: l.KeyFile, ClientCA: l.ClientCA},
		AllowedHosts: append(cmd.StringSlice("allowed-host"), l.AllowedHosts...),
		MaxConns:     int(l.MaxConnections),
		MaxConnsPer:  int(l.MaxConnectionsPerAddress),
		Answer:       api.Answer,
	}
	if len(o.Addrs) == 0 {
		o.Addrs = l.Addrs
	}
	if len(o.Addrs) == 0 {
		o.Addrs = []string{cmp.Or(c.Daemon.Addr, config.DefaultAddr)}
	}
	if err := listen.CheckSocket(o.Socket); err != nil {
		return o, fmt.Errorf("-socket: %w", err)
	}
	for _, a := range o.Addrs {
		if err := listen.CheckAddress(a); err != nil {
			return o, err
		}
	}
	return o, nil
}

// systemdSocket is the socket in what RuntimeDirectory= made; of several, the first.
func systemdSocket(getenv func(string) string) string {
	dir, _, _ := strings.Cut(getenv("RUNTIME_DIRECTORY"), ":")
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, socketName)
}

// openListeners listens. Settings that cannot be used are wrong usage.
func openListeners(ctx context.Context, o listen.Options, log *slog.Logger) (*listen.Set, error) {
	o.Logger = log
	set, err := listen.Open(ctx, o)
	if wrong := new(listen.SettingsError); errors.As(err, &wrong) {
		return nil, cliargs.UsageError{Err: err}
	}
	return set, err
}

// wantAuthentication refuses an address that other machines reach when there is
// nothing by which people are told apart.
func wantAuthentication(ctx context.Context, set *listen.Set, who *access.Authenticator) error {
	url := set.Exposed()
	if url == "" {
		return nil
	}
	configured, err := who.Configured(ctx)
	if err == nil && !configured {
		return cliargs.Usage("address %s can be reached from other machines and needs authentication: make a token with hyper2kvmd token create, "+
			"or set access.oidc or listen.client_ca", url)
	}
	return err
}

// reloadOnHangup returns what reads the certificates again at each SIGHUP from now
// on, until its context ends. To a daemon on a terminal, SIGHUP is the end of that, and
// its own as before.
func reloadOnHangup(set *listen.Set, log *slog.Logger, onTerminal bool) func(context.Context) error {
	hangups := make(chan os.Signal, 1)
	if !onTerminal {
		signal.Notify(hangups, syscall.SIGHUP)
	}
	return func(ctx context.Context) error {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangups:
			}
			notify(log, sd.SdNotifyReloading)
			if err := set.Reload(); err != nil {
				log.Error("the certificate cannot be read again; the earlier one stays in use", "error", err)
			}
			notify(log, sd.SdNotifyReady)
		}
	}
}

// certificates are what the daemon shows to clients, for those who watch it.
func certificates(set *listen.Set) []watch.Certificate {
	c, ok := set.Certificate()
	if !ok {
		return nil
	}
	return []watch.Certificate{{Name: "listen", NotAfter: c.NotAfter, Trouble: c.Trouble}}
}

// mainAddr is the address that the log names: the first that is no socket.
func mainAddr(set *listen.Set) string {
	for _, l := range set.Listeners() {
		if tcp, ok := l.Addr().(*net.TCPAddr); ok {
			return tcp.String()
		}
	}
	return set.URLs()[0]
}
