package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
)

// Beside is a state file that another process may be using as its daemon. It
// shows what may be changed beside that one.
type Beside struct{ s *Store }

// OpenBeside opens the state file at path, whether a daemon uses it or not. When
// there is none yet, or an older program made it, it is made or brought up to date
// first, for which no daemon may run.
func OpenBeside(ctx context.Context, path string) (*Beside, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open state file: %w", err)
	}
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		if err := prepare(ctx, path); err != nil {
			return nil, err
		}
	}
	b, behind, err := openBeside(ctx, path)
	if err == nil && behind {
		if err = errors.Join(b.Close(), prepare(ctx, path)); err == nil {
			b, behind, err = openBeside(ctx, path)
		}
	}
	if err == nil && behind {
		err = errors.Join(fmt.Errorf("open state file %s: its schema was changed meanwhile; try again", path), b.Close())
	}
	return b, err
}

// prepare makes the state file, or brings it up to date.
func prepare(ctx context.Context, path string) error {
	s, err := Open(ctx, path)
	if errors.Is(err, ErrLocked) {
		return fmt.Errorf("the daemon that runs is of an older version than this program, or is just starting: restart it first: %w", err)
	}
	if err != nil {
		return err
	}
	return s.Close()
}

// openBeside opens the file without any lock of ours, and reports whether its schema
// is older than this program's.
func openBeside(ctx context.Context, path string) (b *Beside, behind bool, err error) {
	s := newStore(&file{clock: clock.New(nil), path: path})
	b = &Beside{s}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open state file %s: %w", path, err), b.Close())
		}
	}()
	if s.write, err = connect(path, "_txlock=immediate&mode=rw"); err != nil {
		return b, false, err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = connect(path, "_pragma=query_only(1)&mode=rw"); err != nil {
		return b, false, err
	}
	_, have, want, err := s.versions(ctx)
	return b, have < want, s.explain(err)
}

// Tokens returns the API tokens that the file has.
func (b *Beside) Tokens() access.Tokens { return b.s.Tokens() }

// Audit returns where the audit log of the file is kept.
func (b *Beside) Audit() audit.Store { return b.s.Audit() }

// Members returns what the file has of its daemon.
func (b *Beside) Members() jobs.Daemons { return b.s.Members() }

// Close closes the file.
func (b *Beside) Close() error {
	var errs []error
	if b.s.read != nil {
		errs = append(errs, b.s.read.Close())
	}
	if b.s.write != nil {
		errs = append(errs, b.s.write.Close())
	}
	return errors.Join(errs...)
}
