package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// prompter asks questions on a terminal, a line each.
type prompter struct {
	in  *os.File
	out io.Writer
}

// answer is what was read.
type answer struct {
	text string
	err  error
}

// line asks for a line of text; an empty one is fallback.
func (p prompter) line(ctx context.Context, question, fallback string) (string, error) {
	if fallback != "" {
		question += " [" + fallback + "]"
	}
	fmt.Fprintf(p.out, "%s: ", question)
	s, err := p.wait(ctx, func() (string, error) { return readLine(p.in) })
	if s = strings.TrimSpace(s); s == "" {
		s = fallback
	}
	return s, err
}

// secret asks for a line that is not shown.
func (p prompter) secret(ctx context.Context, question string) (string, error) {
	fmt.Fprintf(p.out, "%s: ", question)
	fd := int(p.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	s, err := p.wait(ctx, func() (string, error) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	})
	fmt.Fprintln(p.out)
	if err != nil {
		_ = term.Restore(fd, before) // who was interrupted gets the echo back
	}
	return s, err
}

// yes asks a question to be answered by yes or no.
func (p prompter) yes(ctx context.Context, question string, fallback bool) (bool, error) {
	choices := " [y/N]"
	if fallback {
		choices = " [Y/n]"
	}
	for {
		s, err := p.line(ctx, question+choices, "")
		switch strings.ToLower(s) {
		case "y", "yes":
			return true, err
		case "n", "no":
			return false, err
		case "":
			return fallback, err
		}
		fmt.Fprintln(p.out, "Please answer y or n.")
	}
}

// wait reads until ctx ends. A read that is not over by then goes on behind our
// back, until the process ends.
func (p prompter) wait(ctx context.Context, read func() (string, error)) (string, error) {
	got := make(chan answer, 1)
	go func() {
		s, err := read()
		got <- answer{s, err}
	}()
	select {
	case a := <-got:
		if errors.Is(a.err, io.EOF) {
			a.err = errors.New("no answer: the input has ended")
		}
		return a.text, a.err
	case <-ctx.Done():
		fmt.Fprintln(p.out)
		return "", ctx.Err()
	}
}

// readLine reads a byte at a time, so that what is typed ahead stays for whoever
// reads next.
func readLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if b[0] == '\n' {
				return string(line), nil
			}
			line = append(line, b[0])
		}
		if err != nil {
			return string(line), err
		}
	}
}
