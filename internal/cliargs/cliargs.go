// Package cliargs holds what the command lines of the programs have in common
// beyond package cli: flags may stand before the subcommand they belong to,
// and a mistyped subcommand gets a proposal.
package cliargs

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"
)

// UsageError is a command line that makes no sense. Programs exit with 2.
type UsageError struct{ Err error }

// Error returns the text of Err.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e UsageError) Unwrap() error { return e.Err }

// Usage returns a [UsageError] with that text.
func Usage(format string, args ...any) error {
	return UsageError{fmt.Errorf(format, args...)}
}

// SubcommandFirst moves the name of a subcommand of root in front of the flags
// that precede it, so that `prog -file x submit` means `prog submit -file x`.
// args[0] is the program. Arguments without a known subcommand come back as
// they are.
func SubcommandFirst(root *cli.Command, args []string) []string {
	takesValue := map[string]bool{}
	for _, c := range append([]*cli.Command{root}, root.Commands...) {
		for _, f := range c.Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() {
				for _, name := range f.Names() {
					takesValue[name] = true
				}
			}
		}
	}
	for i := 1; i < len(args) && args[i] != "--"; i++ {
		arg := args[i]
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			if i == 1 || root.Command(arg) == nil {
				return args
			}
			moved := append([]string{args[0], arg}, args[1:i]...)
			return append(moved, args[i+1:]...)
		}
		if takesValue[strings.TrimLeft(arg, "-")] {
			i++
		}
	}
	return args
}

// Finish completes root: usage errors become [UsageError], errors are left to
// the caller, and without a subcommand the root's action runs only when there
// is no argument that could be a mistyped one.
func Finish(root *cli.Command) {
	root.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	root.EnableShellCompletion = true
	root.ConfigureShellCompletionCommand = func(c *cli.Command) { c.Hidden = false }
	for _, c := range append([]*cli.Command{root}, root.Commands...) {
		c.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
			return Usage("%w; see %s -help", err, cmd.FullName())
		}
	}
	action := root.Action
	root.Action = func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Args().Present() {
			return unknown(cmd, cmd.Args().First())
		}
		return action(ctx, cmd)
	}
}

func unknown(root *cli.Command, name string) error {
	hint := "see " + root.Name + " -help"
	if s := cli.SuggestCommand(root.Commands, name); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return Usage("no such command %q; %s", name, hint)
}

// NoArgs refuses arguments that are no flags, which are mistakes such as a
// flag without its dash.
func NoArgs(f cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Args().Present() {
			return Usage("%s takes no argument %q; see %s -help", cmd.FullName(), cmd.Args().First(), cmd.FullName())
		}
		return f(ctx, cmd)
	}
}
