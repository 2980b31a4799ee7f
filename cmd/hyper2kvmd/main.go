// Command hyper2kvmd is the daemon: it runs exports as jobs behind a REST API,
// keeps them in a database file, and goes on with them after a restart.
//
// SIGTERM and SIGINT end it in good order: nothing new is claimed, running jobs
// checkpoint and are handed back, watchers are let go. A second signal ends it
// at once; what was running is then found and resumed at the next start.
//
// Under systemd it speaks sd_notify (ready, stopping, watchdog) and takes a
// listening socket if it is given one.
//
// Exit codes: 0 ended by a signal; 1 failed; 2 wrong usage or configuration, or a
// database that this program cannot use: starting it again does not help.
package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the next signal finds the default action again
	code := run(ctx, os.Args, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer, getenv func(string) string) int {
	p := terminal.New(out, errOut)
	root := newRoot(p, getenv)
	err := root.Run(ctx, cliargs.SubcommandFirst(root, args))
	if err == nil {
		return 0
	}
	p.Error("%s", display.SafeText(err.Error()))
	var usage cliargs.UsageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func newRoot(p *terminal.Printer, getenv func(string) string) *cli.Command {
	root := &cli.Command{
		Name:    "hyper2kvmd",
		Usage:   "export virtual machines from vSphere as jobs behind a REST API",
		Version: version.Line(),
		Description: `Named vCenters are read from the configuration file. Without one, jobs that name
none use GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD, GOVC_INSECURE and GOVC_DATACENTER.
DOWNLOAD_WORKERS is how many downloads at once a job gets that does not say.`,
		Flags: append(listenFlags(),
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE`; " + config.DefaultPath + " if it is there"},
			&cli.StringFlag{Name: "state-dir", Usage: "`DIRECTORY` for the database"},
			&cli.StringFlag{Name: "store", Usage: "`URL` of a PostgreSQL database that daemons share, as postgres://user@host/database?sslmode=verify-full, in place of the file; its password is configured"},
			&cli.StringFlag{Name: "db", Usage: "database `FILE`; jobs.db in the state directory"},
			&cli.IntFlag{Name: "jobs", Aliases: []string{"workers"}, Usage: "run `N` jobs at once; 4 unless configured"},
			&cli.StringFlag{Name: "limit", Usage: "bandwidth `RATE` of all jobs together, such as 200MB/s; it can be changed through the API"},
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json"},
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error", Sources: cli.EnvVars("LOG_LEVEL")},
		),
		Writer:    p.Out,
		ErrWriter: p.Err,
	}
	root.Action = func(ctx context.Context, cmd *cli.Command) error {
		s, err := settingsFrom(cmd, getenv)
		if err != nil {
			return cliargs.UsageError{Err: err}
		}
		log, err := newLogger(p.Err, cmd.String("log-format"), cmp.Or(cmd.String("log-level"), "info"), getenv)
		if err != nil {
			return cliargs.UsageError{Err: err}
		}
		return serve(ctx, s, log, p)
	}
	root.Commands = []*cli.Command{tokenCommand(p, getenv), auditCommand(p, getenv), keyCommand(p, getenv), tlsCommand(p, getenv), backupCommand(p, getenv), storeCommand(p, getenv), drainCommand(p, getenv)}
	cliargs.Finish(root)
	return root
}
