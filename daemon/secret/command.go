package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// errTooMuch ends a command that prints more than a secret can be.
var errTooMuch = errors.New("it printed more than a secret can be")

// runProgram runs a command and returns what it printed. Its stderr is logged,
// without what it printed.
func (r *Reader) runProgram(ctx context.Context, argv []string) (string, error) {
	name := "the command " + filepath.Base(argv[0])
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, fmt.Errorf("it had not ended after %v", commandTimeout))
	defer cancel()
	out, complaint := &bounded{limit: maxSecret, over: cancel}, &bounded{limit: maxComplaint}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, complaint, r.environ()
	cmd.WaitDelay = time.Second // for what it may have started
	alone(cmd)
	err := cmd.Run()
	secret, empty := clean(out.kept.Bytes(), "what "+name+" printed")
	if text := complaint.without(secret, out.kept.String()); text != "" {
		level := slog.LevelWarn
		if err == nil {
			level = slog.LevelDebug
		}
		r.log.Log(ctx, level, "a command for a password says", "command", argv[0], "stderr", text)
	}
	switch {
	case out.exceeded:
		return "", fmt.Errorf("%s failed: %w", name, errTooMuch)
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s failed: %w", name, context.Cause(ctx))
	case err != nil:
		return "", fmt.Errorf("%s failed: %w; the daemon's log has what it said on stderr", name, plain(err))
	}
	return secret, empty
}

// plain is err without the path and arguments that package exec may quote.
func plain(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errors.New(exit.ProcessState.String())
	}
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var start *exec.Error
	if errors.As(err, &start) {
		return start.Err
	}
	return err
}

// environ is the environment of commands: that of the daemon without what is a
// secret or meant for the daemon alone.
func (r *Reader) environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !r.hidden(name) {
			env = append(env, v)
		}
	}
	return env
}

// without returns what was kept, cleaned of control characters and of secrets that
// stand in it.
func (b *bounded) without(secrets ...string) string {
	text := b.kept.String()
	for _, s := range secrets {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		text = strings.ReplaceAll(text, s, "(hidden)")
		if b.exceeded { // the cut may have gone through one
			text = text[:max(0, len(text)-len(s))]
		}
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(text)
}

// bounded keeps the first limit bytes that are written, and calls over, if it has
// one, when there are more.
type bounded struct {
	kept     bytes.Buffer // not embedded: its ReadFrom knows no bound
	limit    int
	over     func()
	exceeded bool
}

// Write implements [io.Writer].
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - b.kept.Len(); len(p) > room {
		_, _ = b.kept.Write(p[:room]) // never fails
		b.exceeded = true
		if b.over != nil {
			b.over()
		}
		return len(p), nil
	}
	return b.kept.Write(p)
}
