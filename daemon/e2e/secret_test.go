package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// A job may bring its own vCenter and password along. The daemon that finishes
// it is another one than was told the password.
func TestAPasswordInAJobSurvivesACrashAndIsNowhereInTheClear(t *testing.T) {
	t.Parallel()
	lab, sources := guest(t, vspheretest.Config{Faults: []string{"stall:at=1MiB,disk=1"}})
	reached := lab.ByteReached("guest", 1, mib)
	h := newHome(t, lab)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	h.write("config.yaml", "daemon:\n  secret_key_file: "+h.write("key", key.String()+"\n")+"\n")
	if err := os.Remove(filepath.Join(h.dir, "password-lab")); err != nil {
		t.Fatal(err)
	}
	d := h.start()
	u := lab.URL()
	u.User = nil
	j := held{home: h, lab: lab, daemon: d, id: "guest", out: h.out("guest")}
	def := job.Definition{
		ID: j.id, VMPath: "guest", OutputPath: j.out, VCenterURL: u.String(), Username: "user", Password: password, Insecure: true,
		Options: job.Options{Format: job.FormatQcow2},
	}
	if _, err := d.Submit(t.Context(), []job.Definition{def}, true); err != nil {
		t.Fatal(err)
	}
	j.at(t, reached)
	nowhere(t, h.dir, password)
	d.kill()
	nowhere(t, h.dir, password)

	d = h.start()
	for e, err := range d.Watch(t.Context(), j.id) {
		if err != nil {
			t.Fatalf("watch: %+v, %v", e, err)
		}
	}
	shown, err := d.Job(t.Context(), j.id)
	if err != nil || shown.Definition.Password != "" {
		t.Fatalf("the password comes back out (%v)", err)
	}
	identical(t, shown, sources...)
	d.stop(t)
	nowhere(t, h.dir, password)
}

// nowhere checks that no file below dir holds secret.
func nowhere(t *testing.T, dir, secret string) {
	t.Helper()
	eachFile(t, dir, func(path string, data []byte) {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s holds the password", path)
		}
	})
}

// eachFile calls see for every file below dir, of which there must be some. A
// daemon may be at work there meanwhile: a file that is renamed or removed
// before it can be read is passed over, as it would be had the walk begun later.
func eachFile(t *testing.T, dir string, see func(path string, data []byte)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var data []byte
		if err == nil && d.Type().IsRegular() {
			data, err = os.ReadFile(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != dir:
			return nil
		case err != nil || !d.Type().IsRegular():
			return err
		}
		n++
		see(path, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Errorf("there is nothing in %s", dir)
	}
}
