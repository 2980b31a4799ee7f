package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// settings are flags, environment and configuration file in one: flags come
// first, then the file, then what systemd or the user's environment says.
type settings struct {
	config   config.Config
	listen   listen.Options
	db       string // path of the database
	jobs     int
	limit    int64 // bytes per second of all jobs together, 0 for no limit
	parallel int   // DOWNLOAD_WORKERS, 0 when not set
	getenv   func(string) string
}

func settingsFrom(cmd *cli.Command, getenv func(string) string) (settings, error) {
	s := settings{getenv: getenv}
	var err error
	path := cmp.Or(cmd.String("config"), config.DefaultPath)
	s.config, err = config.Load(path)
	if err != nil && (cmd.IsSet("config") || !errors.Is(err, fs.ErrNotExist)) {
		return s, err
	}
	d := s.config.Daemon
	if s.listen, err = listenOptions(cmd, s.config, getenv); err != nil {
		return s, err
	}
	s.jobs = int(d.Jobs)
	if cmd.IsSet("jobs") {
		s.jobs = cmd.Int("jobs")
		if s.jobs < 1 || s.jobs > config.MaxJobs {
			return s, fmt.Errorf("-jobs: must be 1 to %d", config.MaxJobs)
		}
	}
	if s.limit, err = units.ParseRate(cmp.Or(cmd.String("limit"), d.Limit)); err != nil {
		return s, errors.New("-limit: must be a rate such as 200MB/s, 25MiB/s or 1Gbit/s")
	}
	if v := getenv("DOWNLOAD_WORKERS"); v != "" {
		s.parallel, err = strconv.Atoi(v)
		if err != nil || s.parallel < 1 || s.parallel > job.MaxParallelDownloads {
			return s, fmt.Errorf("DOWNLOAD_WORKERS: must be 1 to %d", job.MaxParallelDownloads)
		}
	}
	if url := cmd.String("store"); url != "" {
		if err := config.CheckStoreURL(url); err != nil {
			return s, fmt.Errorf("-store: %w", err)
		}
		s.config.Store.URL = url
	}
	if s.db = cmd.String("db"); s.db == "" {
		dir := cmp.Or(cmd.String("state-dir"), d.StateDir, systemdStateDir(getenv), userStateDir(getenv))
		s.db = filepath.Join(dir, "jobs.db")
	}
	return s, nil
}

// keepPasswords is how long the passwords of jobs that failed are kept, as
// [jobs.Options] has it.
func (s settings) keepPasswords() time.Duration {
	keep := s.config.Daemon.KeepPasswords
	switch {
	case keep == nil:
		return jobs.DefaultKeepPasswords
	case *keep == 0:
		return -1
	}
	return time.Duration(*keep)
}

// systemdStateDir is what StateDirectory= made; of several, the first.
func systemdStateDir(getenv func(string) string) string {
	dir, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":")
	return dir
}

// userStateDir is where a daemon started by hand keeps its state.
func userStateDir(getenv func(string) string) string {
	switch {
	case os.Geteuid() == 0:
		return "/var/lib/hyper2kvm"
	case getenv("XDG_STATE_HOME") != "":
		return filepath.Join(getenv("XDG_STATE_HOME"), "hyper2kvm")
	}
	return filepath.Join(getenv("HOME"), ".local", "state", "hyper2kvm")
}

// makeStateDir makes the database's directory, for the daemon alone.
func (s settings) makeStateDir() error {
	dir := filepath.Dir(s.db)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w; choose another with -state-dir", err)
	}
	f, err := os.CreateTemp(dir, ".writable-")
	if err != nil {
		return fmt.Errorf("state directory %s is not writable for uid %d: %w; choose another with -state-dir", dir, os.Geteuid(), err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
