package e2e

import (
	"bytes"
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
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s holds the password", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
