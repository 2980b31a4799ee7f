package panics_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

func TestAPanicBecomesAnErrorThatSaysWhereAndIsPermanent(t *testing.T) {
	t.Parallel()
	var none []string
	for what, f := range map[string]func() error{
		"index out of range": func() error { return errors.New(none[len(none)]) },
		"a secret":           func() error { panic("a secret") },
		"nil pointer":        func() error { var p *panics.Error; return errors.New(p.At) },
	} {
		err := fmt.Errorf("disk 1: %w", panics.Catch(f))
		var e *panics.Error
		if !errors.As(err, &e) || !fault.IsPermanent(err) {
			t.Fatalf("%s: error %v", what, err)
		}
		if !strings.HasPrefix(e.At, "panics/panics_test.go:") || !strings.Contains(err.Error(), e.At) || strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %q, at %s", what, err, e.At)
		}
		var log bytes.Buffer
		panics.Log(slog.New(slog.NewTextHandler(&log, nil)), err)
		if said := log.String(); !strings.Contains(said, what) || !strings.Contains(said, "TestAPanicBecomesAnError") {
			t.Errorf("%s: the log has %s", what, said)
		}
	}
}

func TestWhatDoesNotPanicIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, want := range []error{nil, io.EOF} {
		err := panics.Catch(func() error { return want })
		if !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
		var log bytes.Buffer
		if panics.Log(slog.New(slog.NewTextHandler(&log, nil)), err); log.Len() > 0 {
			t.Errorf("logged %s", log.String())
		}
	}
}
