package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// lastRun is what hyper2kvm resume goes on with. It holds no password.
type lastRun struct {
	Started    time.Time        `json:"started"`
	URL        string           `json:"url"` // of the vCenter of the environment, "" when every job names its own
	Username   string           `json:"username"`
	Thumbprint string           `json:"thumbprint,omitempty"`
	Insecure   bool             `json:"insecure,omitempty"`
	Jobs       []job.Definition `json:"jobs"`
}

// stateDir is where this user's runs leave what the next one needs to know.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hyper2kvm"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "state", "hyper2kvm"), err
}

// lastRunPath is the file of the last run, "" when nobody knows where.
func lastRunPath() string {
	dir, err := stateDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "last-run.json")
}

// rememberRun writes down what a run is about to do, and returns the command that
// goes on with it.
func rememberRun(cfg vsphere.Config, specs []runs.Spec) (again string, err error) {
	last := lastRun{Started: time.Now().Round(time.Second), Username: cfg.Username, Thumbprint: cfg.Thumbprint, Insecure: cfg.Insecure}
	if cfg.URL != nil {
		last.URL = cfg.URL.String()
	}
	for _, s := range specs {
		if s.Def.Password != "" {
			return "", errors.New("a job holds a password, which is not kept; run its file again")
		}
		last.Jobs = append(last.Jobs, s.Def)
	}
	dir, err := stateDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(last, "", "  ")
	if err != nil {
		return "", err
	}
	return "hyper2kvm resume", atomicfile.Write(lastRunPath(), b, 0o600)
}

// readLastRun reads what rememberRun wrote.
func readLastRun() (lastRun, error) {
	var last lastRun
	b, err := os.ReadFile(lastRunPath())
	if errors.Is(err, fs.ErrNotExist) {
		return last, cliargs.Usage("there is no run to go on with: %s is written by hyper2kvm export of several VMs", lastRunPath())
	}
	if err != nil {
		return last, err
	}
	if err := json.Unmarshal(b, &last); err != nil {
		return last, fmt.Errorf("%s cannot be read: %w; start the export again", lastRunPath(), err)
	}
	for i, def := range last.Jobs {
		if err := def.Validate(); err != nil {
			return last, fmt.Errorf("%s: jobs[%d]: %w; start the export again", lastRunPath(), i, err)
		}
	}
	return last, nil
}

// environment is the environment with the vCenter of the run in it.
func (l lastRun) environment(getenv func(string) string) func(string) string {
	return func(name string) string {
		switch name {
		case "GOVC_URL":
			return l.URL
		case "GOVC_USERNAME":
			return cmp.Or(getenv(name), l.Username)
		case "GOVC_INSECURE":
			if l.Insecure {
				return "true"
			}
		}
		return getenv(name)
	}
}

// writeJSON writes v as people read it.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
