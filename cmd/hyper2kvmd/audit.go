package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// auditCommand reads the audit log in the database, beside a daemon or without
// one.
func auditCommand(p *terminal.Printer, getenv func(string) string) *cli.Command {
	verify := &cli.Command{
		Name: "verify", Usage: "check that no entry was changed, moved, added or removed",
		Flags: []cli.Flag{&cli.StringFlag{Name: "expect", Usage: "that entry `NUMBER:HASH`, as the daemon logged it, is in the log"}},
		Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error {
			return beside(ctx, cmd, getenv, func(ctx context.Context, b besides) error { return verifyAudit(ctx, cmd, p, b) })
		}),
	}
	list := &cli.Command{
		Name: "list", Usage: "print the last entries, the newest at the end",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "n", Value: 50, Usage: "how `MANY`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error {
			return beside(ctx, cmd, getenv, func(ctx context.Context, b besides) error { return listAudit(ctx, cmd, p, b) })
		}),
	}
	return &cli.Command{
		Name: "audit", Usage: "read and check the log of what was changed, and by whom",
		Commands: []*cli.Command{list, verify},
	}
}

func verifyAudit(ctx context.Context, cmd *cli.Command, p *terminal.Printer, b besides) error {
	verdict, err := b.log.Verify(ctx)
	if err != nil {
		return err
	}
	if expect := cmd.String("expect"); expect != "" {
		if err := expectEntry(ctx, b, expect); err != nil {
			return err
		}
	}
	for _, note := range verdict.Notes {
		p.Warning("%s", display.SafeText(note))
	}
	p.Success("The audit log is whole: %d entries, the last with hash %s", verdict.Entries, verdict.Hash)
	return nil
}

// expectEntry looks for an entry that somebody has kept the hash of.
func expectEntry(ctx context.Context, b besides, expect string) error {
	number, text, _ := strings.Cut(expect, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	var hash audit.Hash
	if err = errors.Join(err, hash.UnmarshalText([]byte(text))); err != nil || n < 1 {
		return cliargs.Usage("-expect: must be NUMBER:HASH, as the daemon logs them")
	}
	found, err := b.store.Audit().After(ctx, n-1, 1)
	switch {
	case err != nil:
		return err
	case len(found) == 0 || found[0].Number != n:
		return &audit.BrokenError{Number: n, Why: "it is missing"}
	case found[0].Hash != hash:
		return &audit.BrokenError{Number: n, Why: "it is another one than is expected: its hash is " + found[0].Hash.String()}
	}
	return nil
}

// shownEntry is an entry as -json prints it.
type shownEntry struct {
	Number int64      `json:"number"`
	Hash   audit.Hash `json:"hash"`
	audit.Entry
}

func listAudit(ctx context.Context, cmd *cli.Command, p *terminal.Printer, b besides) error {
	n := cmd.Int("n")
	if n < 1 {
		return cliargs.Usage("-n: must be at least 1")
	}
	records, err := b.log.Page(ctx, 0, n)
	if err != nil {
		return err
	}
	shown := []shownEntry{}
	for _, r := range slices.Backward(records) {
		e, err := r.Entry()
		if err != nil {
			return err
		}
		shown = append(shown, shownEntry{r.Number, r.Hash, e})
	}
	if cmd.Bool("json") {
		return p.PrintJSON(shown)
	}
	rows := [][]string{{"Entry", "Time", "Who", "From", "What"}}
	for _, e := range shown {
		rows = append(rows, auditRow(e))
	}
	return p.Table(rows, true)
}

// auditRow is an entry for people.
func auditRow(e shownEntry) []string {
	row := []string{strconv.FormatInt(e.Number, 10), e.Time.Format(time.RFC3339), "", "", ""}
	var what []string
	say := func(format string, args ...any) { what = append(what, fmt.Sprintf(format, args...)) }
	if e.Of == 0 {
		row[2] = fmt.Sprintf("%s (%s, %s)", e.Who, e.Role, e.Via)
		row[3] = e.From
		say("%s", e.Action)
	} else {
		say("result of %d:", e.Of)
	}
	if e.Target != "" {
		say("%s", e.Target)
	}
	if e.Value != "" {
		say("(%s)", e.Value)
	}
	for i, j := range e.Jobs {
		if i == 3 {
			say("and %d more", len(e.Jobs)-i)
			break
		}
		say("%s", strings.TrimSpace(strings.Join([]string{j.ID, j.Output}, " ")))
	}
	if e.Status != 0 {
		say("HTTP %d", e.Status)
	}
	if e.Done > 0 {
		say("%d done", e.Done)
	}
	if len(e.Failed) > 0 {
		say("%d not", len(e.Failed))
	}
	switch {
	case e.Error != "":
		say("%s", e.Error)
	case e.Of != 0 && e.Status == 0:
		say("done")
	}
	if e.HeadFault != "" {
		say("[%s]", e.HeadFault)
	}
	row[4] = strings.Join(what, " ")
	for i := range row {
		row[i] = display.SafeText(row[i])
	}
	return row
}
