package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// backupCommand copies the database while the daemon runs.
func backupCommand(p *terminal.Printer, getenv func(string) string) *cli.Command {
	return &cli.Command{
		Name: "backup", Usage: "copy the database into a new file, also while the daemon runs", ArgsUsage: "FILE",
		Description: `The copy has jobs, tokens and the audit log as they are at one moment, and is checked
from end to end. It has not the key of the passwords in jobs (secret.key), which
belongs somewhere else. To go back to a copy, see docs/backup.md.`,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.Args().Len() != 1 {
				return cliargs.Usage("which file? %s FILE", cmd.FullName())
			}
			return backup(ctx, cmd, cmd.Args().First(), p, getenv)
		},
	}
}

// backup makes the copy beside the database, as the user that the database belongs
// to, and moves it from there as who runs the command: root may write where the
// daemon may not.
func backup(ctx context.Context, cmd *cli.Command, file string, p *terminal.Printer, getenv func(string) string) error {
	s, err := settingsFrom(cmd, getenv)
	if err != nil {
		return cliargs.UsageError{Err: err}
	}
	if s.shared() {
		return cliargs.Usage("the store is a PostgreSQL database: copy it with pg_dump, as docs/backup.md says")
	}
	if _, err := os.Stat(s.db); err != nil {
		return fmt.Errorf("there is no database to copy: %w; -state-dir names another directory", err)
	}
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s is there already, and is not replaced", file)
	}
	made := filepath.Join(filepath.Dir(s.db), fmt.Sprintf(".backup-%d", os.Getpid()))
	remove := func() error { return asOwner(filepath.Dir(s.db), func() error { return os.Remove(made) }) }
	err = asOwner(filepath.Dir(s.db), func() (err error) {
		store, err := sqlite.OpenBeside(ctx, s.db)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		return store.Backup(ctx, made)
	})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	size, err := place(made, file)
	if err = errors.Join(err, remove()); err != nil {
		return fmt.Errorf("backup to %s: %w", file, err)
	}
	p.Success("%s: %s, checked; the key of the passwords in jobs is not in it", file, units.Bytes(size))
	return nil
}

// place copies a file to a name that is not taken, for its owner alone, whole or not
// at all.
func place(from, to string) (size int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	dir, err := os.OpenRoot(filepath.Dir(to))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	part := filepath.Base(to) + fmt.Sprintf(".%d.part", os.Getpid())
	out, err := dir.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	size, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = atomicfile.Rename(dir, part, filepath.Base(to))
	}
	if err != nil {
		return 0, errors.Join(err, dir.Remove(part))
	}
	return size, atomicfile.SyncDir(dir, ".")
}
