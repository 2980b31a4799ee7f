package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
)

// idFile holds the id of the daemon, in its state directory: by it, the daemon is the
// same one after a restart.
const idFile = "daemon.id"

// idBytes is how long a new id is; in the file it is in hexadecimal digits.
const idBytes = 4

// daemonID reads the id of the daemon, or fs.ErrNotExist when it has never started.
func (s settings) daemonID() (string, error) {
	path := filepath.Join(filepath.Dir(s.db), idFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("id of the daemon: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != idBytes {
		return "", fmt.Errorf("id of the daemon: %s holds none: remove it, and the daemon makes itself a new one at its start", path)
	}
	return id, nil
}

// identity is the daemon as it enters itself among those on its store. It makes the id
// at the first start.
func (s settings) identity() (jobs.Member, error) {
	id, err := s.daemonID()
	if errors.Is(err, fs.ErrNotExist) {
		raw := make([]byte, idBytes)
		_, _ = rand.Read(raw) // never fails
		id = hex.EncodeToString(raw)
		if err = atomicfile.Write(filepath.Join(filepath.Dir(s.db), idFile), []byte(id+"\n"), 0o600); err != nil {
			err = fmt.Errorf("id of the daemon: %w", err)
		}
	}
	if err != nil {
		return jobs.Member{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return jobs.Member{}, fmt.Errorf("name of this machine: %w", err)
	}
	return jobs.Member{ID: id, Host: host, Version: version.String(), Labels: s.config.Labels}, nil
}
