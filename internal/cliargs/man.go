package cliargs

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// manCommand prints the program's manual page. Packages are made with it; people
// have the packaged page, or `PROGRAM man | man -l -`.
func manCommand() *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print the manual page",
		Hidden: true,
		Flags:  []cli.Flag{&cli.IntFlag{Name: "section", Value: 1, Usage: "`N`, the section of the manual"}},
		Action: NoArgs(func(_ context.Context, cmd *cli.Command) error {
			_, err := io.WriteString(cmd.Root().Writer, ManPage(cmd.Root(), cmd.Int("section")))
			return err
		}),
	}
}

// seeAlso are the pages of the programs.
var seeAlso = []string{"h2kvmctl(1)", "hyper2kvm(1)", "hyper2kvmd(8)"}

// ManPage renders the manual page of a program in roff, in the macros of man(7):
// what -help of root and of its commands say, in one page. Commands and flags
// that are hidden are left out.
func ManPage(root *cli.Command, section int) string {
	p := new(page)
	version, _, _ := strings.Cut(root.Version, " ")
	p.line(`.TH "%s" "%d" "" "%s" "%s"`, strings.ToUpper(root.Name), section, roff(root.Name+" "+version), "hyper2kvm")
	p.line(".SH NAME")
	p.line(`%s \- %s`, roff(root.Name), roff(root.Usage))
	p.line(".SH SYNOPSIS")
	p.line(`.B %s`, roff(root.Name))
	p.line(`[\fIoption\fR ...]`)
	if len(shown(root.Commands)) > 0 {
		p.line(`[\fIcommand\fR [\fIoption\fR ...]]`)
	}
	if root.Description != "" {
		p.line(".SH DESCRIPTION")
		p.text(root.Description)
	}
	p.line(".SH OPTIONS")
	commands := shown(root.Commands)
	where := ""
	if len(commands) > 0 {
		where = ", and stand before or after the command"
	}
	p.text("Options take one dash or two" + where + ".")
	p.flags(root.Flags)
	if len(commands) > 0 {
		p.line(".SH COMMANDS")
		for _, c := range commands {
			p.command(root.Name, c)
		}
	}
	p.line(`.SH "SEE ALSO"`)
	p.line("%s", strings.Join(slices.DeleteFunc(slices.Clone(seeAlso), func(s string) bool {
		return strings.HasPrefix(s, root.Name+"(")
	}), ", "))
	return p.String()
}

// page is a manual page that is being written.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
}

// text writes paragraphs, which blank lines part. Their lines are kept as they are
// where they are a table or an example, which is where one is indented.
func (p *page) text(s string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		asItIs := strings.HasPrefix(paragraph, " ") || strings.Contains(paragraph, "\n ")
		if asItIs {
			p.line(".nf")
		}
		for l := range strings.Lines(paragraph) {
			p.line("%s", roff(strings.TrimRight(l, "\n")))
		}
		if asItIs {
			p.line(".fi")
		}
	}
}

// command writes a command, and those below it.
func (p *page) command(prefix string, c *cli.Command) {
	name := prefix + " " + c.Name
	p.line(".SS %s", roff(strings.TrimSpace(name+" "+c.ArgsUsage)))
	p.text(c.Usage)
	if c.Description != "" {
		p.line(".PP")
		p.text(c.Description)
	}
	p.flags(c.Flags)
	for _, sub := range shown(c.Commands) {
		p.command(name, sub)
	}
}

// flags writes what the flags are for.
func (p *page) flags(flags []cli.Flag) {
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if v, hides := f.(cli.VisibleFlag); !ok || hides && !v.IsVisible() {
			continue
		}
		value, usage := placeholder(doc.GetUsage())
		if doc.TakesValue() && value == "" {
			value = "VALUE"
		}
		var names []string
		for _, n := range f.Names() {
			names = append(names, `\fB`+roff("-"+n)+`\fR`)
		}
		tag := strings.Join(names, ", ")
		if value != "" {
			tag += ` \fI` + roff(value) + `\fR`
		}
		p.line(".TP")
		p.line("%s", tag)
		p.line("%s", roff(usage+afterUsage(doc)))
	}
}

// afterUsage is the default of a flag, and the variables that set it.
func afterUsage(f cli.DocGenerationFlag) string {
	var notes []string
	switch value := f.GetValue(); {
	case !f.IsDefaultVisible():
	case f.GetDefaultText() != "":
		notes = append(notes, "default: "+strings.Trim(f.GetDefaultText(), `"`))
	case f.TakesValue() && strings.Trim(value, `"`) != "" && value != "0":
		notes = append(notes, "default: "+strings.Trim(value, `"`))
	}
	for _, env := range f.GetEnvVars() {
		notes = append(notes, "environment: "+env)
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, "; ") + ")"
}

// placeholder takes the name of a flag's value, which stands between backquotes,
// out of its usage.
func placeholder(usage string) (name, text string) {
	before, rest, found := strings.Cut(usage, "`")
	name, after, closed := strings.Cut(rest, "`")
	if !found || !closed {
		return "", usage
	}
	return name, before + name + after
}

// shown are the commands that are not hidden. The help command that package cli
// adds is everybody's and needs no mention.
func shown(commands []*cli.Command) []*cli.Command {
	return slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool {
		return c.Hidden || c.Name == "help" || c.Name == "completion"
	})
}

// roff escapes a line of text.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "–", `\(en`, "…", `\&...`, "’", `\(cq`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
