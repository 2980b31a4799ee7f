package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

const mib = 1 << 20

// rawDisk makes a sparse raw file of size bytes with data bytes of noise in it,
// half of them at its start and half at its end.
func rawDisk(t testing.TB, size, data int64, seed byte) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, data/2)
	r := rand.NewChaCha8([32]byte{seed})
	for _, at := range []int64{0, size - data/2} {
		_, _ = r.Read(noise)
		if _, err := f.WriteAt(noise, at); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// startLab starts a lab whose password can be told from other words.
func startLab(t testing.TB, cfg vspheretest.Config) *vspheretest.Server {
	t.Helper()
	cfg.Password = password
	return vspheretest.Start(t, cfg)
}

// startLabProgram starts a lab in a process of its own, which has no race detector even
// when the tests do: for very many VMs. What it returns has user and password in it.
func startLabProgram(t testing.TB, args ...string) *url.URL {
	t.Helper()
	dir := t.TempDir()
	env := filepath.Join(dir, "lab.env")
	cmd := exec.Command(program(t, "labvcenter"), append([]string{"-addr", "127.0.0.1:0", "-env-file", env, "-temp-dir", dir}, args...)...)
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	said, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be dead already
		_, _ = io.Copy(io.Discard, said)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the lab ends with %v: %s", err, trouble.String())
		}
	})
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "ready") {
	}
	text, err := os.ReadFile(env)
	if err != nil {
		t.Fatalf("the lab does not start: %v", err)
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		vars[name] = value
	}
	u, err := url.Parse(vars["GOVC_URL"])
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(vars["GOVC_USERNAME"], vars["GOVC_PASSWORD"])
	return u
}

// identical holds the disks of a finished job against their sources, and what is
// in its output directory against what the job says it made.
func identical(t testing.TB, j models.Job, sources ...string) {
	t.Helper()
	for _, d := range differences(t, j, sources...) {
		t.Errorf("job %s: %s", j.Definition.ID, d)
	}
}

// differences says what identical would complain of.
func differences(t testing.TB, j models.Job, sources ...string) (all []string) {
	t.Helper()
	if j.Status != models.StatusCompleted || j.Result == nil {
		return []string{fmt.Sprintf("it is %s: %s", j.Status, j.Error)}
	}
	if len(j.Result.Disks) != len(sources) {
		return []string{fmt.Sprintf("%d disks landed, want %d", len(j.Result.Disks), len(sources))}
	}
	for i, d := range j.Result.Disks {
		format := strings.TrimPrefix(filepath.Ext(d.File), ".")
		out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", format, sources[i], d.File).CombinedOutput()
		if err != nil {
			all = append(all, fmt.Sprintf("disk %d: %v: %s", i, err, out))
		}
	}
	want := slices.Sorted(slices.Values(j.Result.Files))
	owes := len(j.Result.Owed) > 0 // then the work directory stays, with the ledger in it
	got := slices.DeleteFunc(left(t, j.Definition.OutputPath), func(path string) bool {
		return strings.HasSuffix(path, ".export.json") || owes && strings.Contains(path, "/.hyper2kvm-")
	})
	if !slices.Equal(got, want) {
		all = append(all, fmt.Sprintf("in the output directory there is %v, want %v", got, want))
	}
	return all
}

// left lists everything in and below dir, in order; nothing when it is not
// there.
func left(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			found = append(found, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// ledger is what these tests know of the record in a job's work directory.
type ledger struct {
	Disks map[string]struct {
		Part string `json:"part"`
		Done bool   `json:"done"`
	} `json:"disks"`
}

// finished tells which disks of a job are done, by file name: by the ledger of
// its work directory, or all of total when the job has left its receipt.
func finished(t testing.TB, def job.Definition, total int) []int {
	t.Helper()
	var done []int
	if receipts, _ := filepath.Glob(filepath.Join(def.OutputPath, "*.export.json")); len(receipts) > 0 {
		for i := range total {
			done = append(done, i)
		}
		return done
	}
	ledgers, _ := filepath.Glob(filepath.Join(def.OutputPath, ".hyper2kvm-*", "ledger.json"))
	for _, path := range ledgers {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var l ledger
		if err := json.Unmarshal(data, &l); err != nil {
			t.Fatalf("%s was left half written: %v", path, err)
		}
		for _, d := range l.Disks {
			_, rest, ok := strings.Cut(d.Part, "-disk-")
			if d.Done && ok {
				done = append(done, int(rest[0]-'0'))
			}
		}
	}
	return done
}

// nothingIsLeft checks that no lease, no task and no snapshot is left at the lab.
func nothingIsLeft(t testing.TB, lab *vspheretest.Server, vms ...string) {
	t.Helper()
	if l := lab.Leases(); len(l) > 0 {
		t.Errorf("leases are left: %+v", l)
	}
	if tasks := lab.RunningTasks(); len(tasks) > 0 {
		t.Errorf("tasks go on: %+v", tasks)
	}
	for _, vm := range vms {
		if s := lab.Snapshots(vm); len(s) > 0 {
			t.Errorf("snapshots of %s are left: %v", vm, s)
		}
	}
}
