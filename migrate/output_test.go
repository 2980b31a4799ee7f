package migrate_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestAnOutputThatIsNoDirectoryIsSaidToBeNone(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, mib, extent{0, mib, true}))
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	for output, want := range map[string]string{
		file:                                 file + " is a file, not a directory",
		filepath.Join(file, "below", "that"): file + " is a file, not a directory",
		filepath.Join(link, "below"):         link + " is a link to something that is not there",
	} {
		b.out = output
		def := b.job(job.FormatRaw)
		if _, _, err := b.run(context.Background(), def); err == nil || !strings.Contains(err.Error(), want) || !migrate.Permanent(err) || migrate.Hint(err) == "" {
			t.Errorf("%s: the run says %v, with the hint %q", output, err, migrate.Hint(err))
		}
		_, obstacles, err := b.m.Check(context.Background(), def)
		if err != nil || len(obstacles) != 1 || obstacles[0].Code != migrate.CodeOutputDir || !strings.Contains(obstacles[0].Text, want) {
			t.Errorf("%s: the check says %+v, %v", output, obstacles, err)
		}
		if err := b.cleanUp(def); err != nil {
			t.Errorf("%s: cleaning up says %v", output, err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "theirs" {
		t.Errorf("the file is now %q, %v", got, err)
	}
	for _, output := range []string{dir, filepath.Join(dir, "a", "b"), ".", "a/b", "/"} {
		if err := migrate.CheckOutput(output); err != nil {
			t.Errorf("%s: %v", output, err)
		}
	}
}
