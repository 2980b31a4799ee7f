package vsphere_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// rawDisk makes a small disk image with data at its start and its end.
func rawDisk(t testing.TB, name string, size int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".raw")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := []byte(strings.Repeat(name+" ", 1000))
	if err := errors.Join(f.Truncate(size), write(f, block, 0), write(f, block, size-int64(len(block)))); err != nil {
		t.Fatal(err)
	}
	return file
}

func write(w io.WriterAt, p []byte, off int64) error {
	_, err := w.WriteAt(p, off)
	return err
}

// building is held while a simulator is built: package simulator keeps
// templates that it changes meanwhile.
var building sync.Mutex

// startLab runs a lab for one test.
func startLab(t testing.TB, cfg vspheretest.Config) *vspheretest.Server {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	return vspheretest.Start(t, cfg)
}

// labConfig says how to log in at the lab, with its certificate pinned.
func labConfig(t testing.TB, lab *vspheretest.Server) vsphere.Config {
	t.Helper()
	pass, _ := lab.URL().User.Password()
	u := *lab.URL()
	u.User = nil
	return vsphere.Config{URL: &u, Username: lab.URL().User.Username(), Password: pass, Thumbprint: lab.Thumbprint()}
}

// find gets a VM that must be there.
func find(t testing.TB, c *vsphere.Client, ref string) vsphere.VM {
	t.Helper()
	vm, err := c.Find(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// open opens a lease, and aborts it at the end of the test unless that is done.
func open(t testing.TB, c *vsphere.Client, target vsphere.Target) *vsphere.Lease {
	t.Helper()
	l, err := c.OpenLease(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Abort(t.Context(), "end of test"); err != nil {
			t.Error(err)
		}
	})
	return l
}

// read reads an item to its end and returns size and SHA-256.
func read(t testing.TB, src transfer.Source) (size int64, sum string) {
	t.Helper()
	body, err := src.Open(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	h := sha256.New()
	if size, err = io.Copy(h, body); err != nil {
		t.Fatal(err)
	}
	return size, hex.EncodeToString(h.Sum(nil))
}
