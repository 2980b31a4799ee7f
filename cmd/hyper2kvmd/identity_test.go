package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADaemonKeepsItsIDInItsStateDirectory(t *testing.T) {
	t.Parallel()
	s, other := settings{db: filepath.Join(t.TempDir(), "jobs.db")}, settings{db: filepath.Join(t.TempDir(), "jobs.db")}
	first, err := s.identity()
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.identity()
	if err != nil || again.ID != first.ID || len(first.ID) != 2*idBytes || first.Host == "" || first.Version == "" {
		t.Errorf("%+v, then %+v, %v", first, again, err)
	}
	if elsewhere, err := other.identity(); err != nil || elsewhere.ID == first.ID {
		t.Errorf("another daemon has the id %q, %v", elsewhere.ID, err)
	}
	path := filepath.Join(filepath.Dir(s.db), idFile)
	for _, damaged := range []string{"", "three words and\n", "123", strings.Repeat("ab", 5)} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.identity(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("from %q: %v, want an error that names the file", damaged, err)
		}
	}
}
