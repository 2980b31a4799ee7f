// Package panics turns panics into errors. It is how a goroutine that handles
// what comes from outside ends: with an error that its owner can put down to one
// disk or one job, instead of the end of the process and of all the other jobs.
//
// Not promised: that what has panicked can be used again. Its owner ends it as
// after any failure that is not worth another attempt.
package panics

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
)

// Error is a panic that was caught. It is permanent: see package fault.
type Error struct {
	Value any    // what panic was called with
	At    string // where it came from, as disk/vmdk/reader.go:210; may be empty
	Stack []byte // of the goroutine
}

// Error says where it came from. What exactly went wrong is for the log: see
// [Log].
func (e *Error) Error() string {
	if e.At == "" {
		return "internal error: the log tells more"
	}
	return "internal error at " + e.At + ": the log tells more"
}

// Permanent is true: what a program does wrong it does wrong again.
func (e *Error) Permanent() bool { return true }

// Catch calls f and returns its error or, when it panics, an [*Error].
func Catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Error{Value: v, At: origin(), Stack: debug.Stack()}
		}
	}()
	return f()
}

// Log writes the panic that err holds, if any, to log, with its stack.
func Log(log *slog.Logger, err error) {
	var e *Error
	if errors.As(err, &e) {
		log.Error("a panic was caught", "panic", fmt.Sprint(e.Value), "at", e.At, "stack", string(e.Stack))
	}
}

// origin is the place of the panic that is being recovered from: the first one
// below the runtime's own.
func origin() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])]) // of who recovers
	panicking := false
	for {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if panicking && !inRuntime {
			dir, file := path.Split(f.File)
			return fmt.Sprintf("%s/%s:%d", path.Base(dir), file, f.Line)
		}
		panicking = panicking || f.Function == "runtime.gopanic"
		if !more {
			return ""
		}
	}
}
