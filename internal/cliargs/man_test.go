package cliargs_test

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
)

// program is a command line with what manual pages stumble over.
func program(out *bytes.Buffer) *cli.Command {
	root := &cli.Command{
		Name: "prog", Usage: "do things - or not", Version: "1.2.3 (go1.26, linux/amd64)", Writer: out, ErrWriter: out,
		Description: "Reads it.\n.hidden files and 'quotes' stay, C:\\dir too.\n\n  a  table\n  as it is",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "addr", Aliases: []string{"a"}, Usage: "listen on `HOST:PORT`", Value: "localhost:1", Sources: cli.EnvVars("PROG_ADDR")},
			&cli.BoolFlag{Name: "secret-switch", Hidden: true, Usage: "not to be seen"},
			&cli.IntFlag{Name: "jobs", Usage: "how many"},
		},
		Commands: []*cli.Command{
			{Name: "token", Usage: "tokens", Commands: []*cli.Command{{
				Name: "create", Usage: "make a token", ArgsUsage: "NAME", Flags: []cli.Flag{&cli.DurationFlag{Name: "ttl", Usage: "for `TIME`"}},
			}}},
			{Name: "ghost", Hidden: true, Usage: "not to be seen"},
		},
		Action: func(context.Context, *cli.Command) error { return nil },
	}
	cliargs.Finish(root)
	return root
}

func TestTheManualPageHasEveryCommandAndFlagThatIsShown(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := program(&out).Run(t.Context(), []string{"prog", "man", "-section", "8"}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), `.TH "PROG" "8" "" "prog 1.2.3" "hyper2kvm"`+"\n") {
		t.Errorf("it begins with %.80q", out.String())
	}
	cmd := exec.CommandContext(t.Context(), "man", "--warnings", "--local-file", "--pager=cat", "--encoding=UTF-8", "-")
	cmd.Stdin = &out
	cmd.Env = append(cmd.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8")
	page, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v (scripts/setup.sh test installs man)\n%s", err, page)
	}
	for _, want := range []string{
		"prog - do things - or not", ".hidden files and 'quotes' stay, C:\\dir too.", "  a  table\n",
		"-addr, -a HOST:PORT\n", "listen on HOST:PORT (default: localhost:1; environment: PROG_ADDR)", "-jobs VALUE\n",
		"prog token create NAME\n", "-ttl TIME\n", "SEE ALSO",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
	for _, hidden := range []string{"not to be seen", "ghost", "warning"} {
		if strings.Contains(string(page), hidden) {
			t.Errorf("%q is in\n%s", hidden, page)
		}
	}
}
