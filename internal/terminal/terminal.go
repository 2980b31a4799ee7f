// Package terminal prints what the command-line programs have to say: boxed
// tables and coloured prefixes on a terminal, the same words without colours,
// boxes, and escape sequences anywhere else, and JSON when that is asked for.
//
// Text that came from elsewhere (a VM's name, a message of a daemon) goes
// through display.SafeText first; this package prints what it is given.
package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/pterm/pterm"
	"golang.org/x/term"
)

// Printer prints to a program's output and error output. Make one with [New].
type Printer struct {
	Out, Err io.Writer
	TTY      bool // Out is a terminal that understands escape sequences
	ErrTTY   bool // so is Err
	JSON     bool // Out gets JSON and nothing else
}

// New returns a Printer for out and err. NO_COLOR is left to pterm, which obeys
// it; TERM=dumb counts as no terminal.
func New(out, err io.Writer) *Printer {
	return &Printer{Out: out, Err: err, TTY: IsTerminal(out), ErrTTY: IsTerminal(err)}
}

// IsTerminal reports whether w is a terminal that understands escape
// sequences.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// Size returns the terminal's width and height in cells, 80 by 24 when it
// cannot tell.
func (p *Printer) Size() (width, height int) {
	if f, ok := p.Out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	return 80, 24
}

// Heading prints "# s".
func (p *Printer) Heading(s string) {
	s = "# " + s
	if p.TTY {
		s = pterm.NewStyle(pterm.FgLightCyan, pterm.Bold).Sprint(s)
	}
	fmt.Fprintf(p.Out, "%s\n\n", s)
}

// Table prints rows in columns, boxed on a terminal; with header, the first
// row is one.
func (p *Printer) Table(rows [][]string, header bool) error {
	if p.TTY {
		table := pterm.DefaultTable.WithBoxed().WithData(rows).WithWriter(p.Out)
		if header {
			table = table.WithHasHeader()
		}
		return table.Render()
	}
	w := tabwriter.NewWriter(p.Out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.Out)
	return err
}

// Success prints a line that begins with SUCCESS.
func (p *Printer) Success(format string, args ...any) {
	line(p.Out, p.TTY, pterm.Success, "SUCCESS", format, args)
}

// Info prints a line that begins with INFO.
func (p *Printer) Info(format string, args ...any) {
	line(p.Out, p.TTY, pterm.Info, "INFO", format, args)
}

// Warning prints a line that begins with WARNING.
func (p *Printer) Warning(format string, args ...any) {
	line(p.Out, p.TTY, pterm.Warning, "WARNING", format, args)
}

// Error prints a line that begins with ERROR, to the error output.
func (p *Printer) Error(format string, args ...any) {
	line(p.Err, p.ErrTTY, pterm.Error, "ERROR", format, args)
}

func line(w io.Writer, tty bool, prefix pterm.PrefixPrinter, word, format string, args []any) {
	text := fmt.Sprintf(format, args...)
	if tty {
		fmt.Fprint(w, strings.TrimLeft(prefix.Sprintln(text), "\n"))
		return
	}
	fmt.Fprintf(w, "%s %s\n", word, text)
}

// PrintJSON prints v, indented, as the REST API does.
func (p *Printer) PrintJSON(v any) error {
	enc := json.NewEncoder(p.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
