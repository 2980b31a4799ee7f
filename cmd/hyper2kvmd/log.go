package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
)

// newLogger returns a logger for people and journald (text) or machines
// (json). It never colours. Where w is the journal's, each line begins with its
// priority, which journald takes off.
func newLogger(w io.Writer, format, level string, getenv func(string) string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, errors.New("-log-level: must be debug, info, warn or error")
	}
	o := &slog.HandlerOptions{Level: l}
	var make func(w io.Writer) slog.Handler
	switch format {
	case "text":
		make = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, o) }
	case "json":
		make = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, o) }
	default:
		return nil, errors.New("-log-format: must be text or json")
	}
	if f, ok := w.(*os.File); ok && isJournal(f, getenv("JOURNAL_STREAM")) {
		out := &prioritized{w: w}
		return slog.New(journalHandler{make(&out.line), out}), nil
	}
	return slog.New(make(w)), nil
}

// prioritized writes lines that begin with a priority.
type prioritized struct {
	mu   sync.Mutex
	w    io.Writer
	line bytes.Buffer // that of a handler, while mu is held
}

// journalHandler puts a priority before each line of another handler, which writes
// to out.line.
type journalHandler struct {
	slog.Handler
	out *prioritized
}

// Handle implements [slog.Handler].
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	h.out.line.WriteString(priority(r.Level))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.out.w.Write(h.out.line.Bytes())
	return err
}

// WithAttrs implements [slog.Handler].
func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements [slog.Handler].
func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.Handler.WithGroup(name), h.out}
}

// priority is a level as sd-daemon(3) writes it.
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}
