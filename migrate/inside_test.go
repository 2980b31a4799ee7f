package migrate_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/overlay"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// insideBench is a bench with a VM of two disks, whose exports are changed inside by two
// parts: "one" writes 1 at 64 KiB of each disk, "two" writes 2 at 128 KiB, where it finds
// what "one" has written.
type insideBench struct {
	following
	one, two migrate.TestPart
}

func newInsideBench(t *testing.T) *insideBench {
	b := &insideBench{following: following{bench: newBench(t, vspheretest.Config{}, twoDisks(t)...)}}
	b.set = func() { b.m.SetParts(b.one, b.two) }
	b.m.AcceptFinished = true
	for i, p := range []*migrate.TestPart{&b.one, &b.two} {
		*p = migrate.TestPart{Name: []string{"one", "two"}[i], Asked: true, Do: func(_ context.Context, overlays []string) error {
			b.did = append(b.did, p.Name)
			for _, o := range overlays {
				qemuIO(t, o, fmt.Sprintf("write -P %d %dk 64k", i+1, 64*(i+1)))
			}
			return nil
		}}
	}
	return b
}

func qemuIO(t testing.TB, image, command string) {
	t.Helper()
	format := strings.TrimPrefix(filepath.Ext(image), ".")
	out, err := exec.Command("qemu-io", "-f", format, "-c", command, image).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verification failed") {
		t.Errorf("%s, %s: %v\n%.300s", image, command, err, out)
	}
}

// changed fails the test unless each disk has what the parts write.
func (b *insideBench) changed(result job.Result, parts ...int) {
	b.t.Helper()
	for _, d := range result.Disks {
		for _, i := range parts {
			qemuIO(b.t, d.File, fmt.Sprintf("read -P %d %dk 64k", i, 64*i))
		}
	}
}

// sums are the hashes of the visible files.
func (b *bench) sums() map[string]string {
	out := map[string]string{}
	for _, name := range b.visible() {
		data, err := os.ReadFile(filepath.Join(b.out, name))
		if err != nil {
			b.t.Fatal(err)
		}
		out[name] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return out
}

func TestAGuestsDisksAreChangedByEachPartOnce(t *testing.T) {
	t.Parallel()
	for _, format := range []job.Format{job.FormatQcow2, job.FormatRaw} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newInsideBench(t)
			def := b.job(format)
			b.two.Asked = false
			b.changed(b.does(def, "one"), 1)
			served := b.BytesServed("guest1", 0)
			b.does(def)
			b.two.Asked = true
			b.changed(b.does(def, "two"), 1, 2)
			b.does(def)
			if n := b.BytesServed("guest1", 0) - served; n > 0 {
				t.Errorf("%d bytes were fetched again", n)
			}
			def.Options.Overwrite = true
			b.changed(b.does(def, "one", "two"), 1, 2)
		})
	}
}

func TestAPartThatFailsLeavesTheImagesAsTheyWereWhateverOthersHaveDone(t *testing.T) {
	t.Parallel()
	for said, fail := range map[string]func() error{
		"no operating system found": func() error { return errors.New("no operating system found") },
		"internal error":            func() error { panic("a bug") },
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			b := newInsideBench(t)
			def := b.job(job.FormatRaw)
			good := b.two.Do
			b.two.Do = func(context.Context, []string) error { return fail() }
			_, result, err := b.again(def)
			if err == nil || result.Success || !strings.Contains(err.Error(), said) || !strings.Contains(migrate.Hint(err), "is finished") {
				t.Errorf("the run ends with %v (%s), %+v", err, migrate.Hint(err), result)
			}
			b.over()
			before := b.sums()
			b.two.Do = good
			b.one.Asked, b.two.Asked = false, false
			b.identical(b.does(def))
			for name, sum := range b.sums() {
				if strings.HasSuffix(name, ".raw") && before[name] != sum {
					t.Errorf("%s is another one", name)
				}
			}
			b.one.Asked, b.two.Asked = true, true
			b.changed(b.does(def, "one", "two"), 1, 2)
		})
	}
}

func TestOverlaysThatMayNotFitAreNotMade(t *testing.T) {
	t.Parallel()
	b := newInsideBench(t)
	b.one.Room = 1 << 60
	did, _, err := b.again(b.job(job.FormatQcow2))
	if !errors.Is(err, overlay.ErrNoSpace) || !migrate.Permanent(err) || len(did) > 0 {
		t.Errorf("did %q, %v", did, err)
	}
	b.over()
}

func TestOverlaysThatAProcessLeftGoBeforeTheNextRunMakesNewOnes(t *testing.T) {
	t.Parallel()
	b := newInsideBench(t)
	def := b.job(job.FormatQcow2)
	left := filepath.Join(t.TempDir(), "left")
	good := b.two.Do
	b.two.Do = func(context.Context, []string) error { return os.CopyFS(left, os.DirFS(b.out)) }
	_, _, err := b.again(def)
	if err := errors.Join(err, os.RemoveAll(b.out), os.Rename(left, b.out)); err != nil {
		t.Fatal(err)
	}
	if h := b.hidden(); !slices.Contains(h, "overlay-1.qcow2") {
		t.Fatalf("the work directory has %q", h)
	}
	b.one.Asked, b.two.Asked = false, false
	b.identical(b.does(def))
	b.one.Asked, b.two.Asked, b.two.Do = true, true, good
	b.changed(b.does(def, "one", "two"), 1, 2)
}

func TestAChangeWhoseCommitWasBrokenOffIsFinishedAndNotMadeAgain(t *testing.T) {
	b := newInsideBench(t)
	def := b.job(job.FormatQcow2)
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in commit*overlay-1*) echo 'Input/output error' >&2; exit 1 ;; esac\nexec " + tool + ` "$@"`
	if err := os.WriteFile(filepath.Join(bin, "qemu-img"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", bin+":"+path)
	for range 2 {
		did, _, err := b.again(def)
		if err == nil || !strings.Contains(err.Error(), "Input/output error") || !slices.Contains(b.hidden(), "overlay-0.qcow2") {
			t.Errorf("did %q, %v; the work directory has %q", did, err, b.hidden())
		}
	}
	t.Setenv("PATH", path)
	b.changed(b.does(def), 1, 2)
}
