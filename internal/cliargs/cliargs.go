// Package cliargs holds what the command lines of the programs have in common
// beyond package cli: flags may stand before the subcommand they belong to,
// and a mistyped subcommand gets a proposal.
package cliargs

import (
	"context"
	"fmt"
	"slices"
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

// Finish completes root and its subcommands: usage errors become [UsageError],
// errors are left to the caller, and where a subcommand can stand the action
// runs only when there is no argument that could be a mistyped one. A command
// without an action shows its help. It adds the commands that print shell
// completions and the manual page.
func Finish(root *cli.Command) {
	root.Commands = append(root.Commands, manCommand())
	root.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	root.EnableShellCompletion = true
	root.ConfigureShellCompletionCommand = func(c *cli.Command) { c.Hidden = false }
	finish(root, true)
}

// finish completes a command and those below it. One that has others below it, as
// the root, takes no arguments but their names.
func finish(c *cli.Command, root bool) {
	c.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return Usage("%w; see %s -help", err, cmd.FullName())
	}
	if action := c.Action; root || len(c.Commands) > 0 {
		c.Action = func(ctx context.Context, cmd *cli.Command) error {
			switch {
			case cmd.Args().Present():
				return unknown(cmd, cmd.Args().First())
			case action == nil:
				return cli.ShowSubcommandHelp(cmd)
			}
			return action(ctx, cmd)
		}
	}
	for _, below := range c.Commands {
		finish(below, false)
	}
}

func unknown(root *cli.Command, name string) error {
	hint := "see " + root.FullName() + " -help"
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
			return surplus(cmd, cmd.Args().First())
		}
		return f(ctx, cmd)
	}
}

// surplus refuses an argument. Where a VM is named by a flag, that is what was
// probably meant.
func surplus(cmd *cli.Command, arg string) error {
	hint := "see " + cmd.FullName() + " -help"
	if slices.ContainsFunc(cmd.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "vm") }) {
		hint = "a VM is named with a flag: -vm " + word(arg)
	}
	return Usage("%s takes no argument %q; %s", cmd.FullName(), arg, hint)
}

// word is s as one word of a POSIX shell.
func word(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n\"'`$&|;<>()*?[]{}!#~\\") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Version returns the subcommand that prints what -version prints.
func Version() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: NoArgs(func(_ context.Context, cmd *cli.Command) error {
			root := cmd.Root()
			if _, err := fmt.Fprintf(root.Writer, "%s version %s\n", root.Name, root.Version); err != nil {
				return fmt.Errorf("print the version: %w", err)
			}
			return nil
		}),
	}
}
