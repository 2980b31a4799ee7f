package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// startDaemon runs the program against a lab and returns its URL. It is ended
// as by a signal, and must then say that all is well.
func startDaemon(t *testing.T, lab *vspheretest.Server) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	u := lab.URL()
	password, _ := u.User.Password()
	user := u.User.Username()
	u.User = nil
	cfg := write("config.yaml", fmt.Sprintf(
		"vcenters:\n  lab:\n    url: %s\n    username: %s\n    password_file: %s\n    insecure: true\n",
		u, user, write("password", password+"\n")))

	logs, stderr := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{
			"hyper2kvmd", "-addr", "localhost:0", "-config", cfg,
			"-state-dir", filepath.Join(dir, "state"), "-log-format", "json",
		}, io.Discard, stderr, func(string) string { return "" })
		_ = stderr.Close()
	}()
	lines := bufio.NewScanner(logs)
	addr := ""
	for addr == "" && lines.Scan() {
		var line struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "hyper2kvmd is listening" {
			addr = line.Addr
		}
	}
	var log strings.Builder
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(&log, logs)
	}()
	t.Cleanup(func() {
		cancel()
		if c := <-code; c != 0 {
			t.Errorf("exit code %d", c)
		}
		<-drained
		if password != "" && strings.Contains(log.String(), `"`+password+`"`) {
			t.Errorf("the password is in the log:\n%s", log.String())
		}
		if t.Failed() {
			t.Logf("log:\n%s", log.String())
		}
	})
	if addr == "" {
		t.Fatal("the daemon does not listen")
	}
	return "http://" + addr
}

// labWithVM is a lab with one VM called web, whose disk has some data.
func labWithVM(t *testing.T) *vspheretest.Server {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(strings.Repeat("hyper2kvm", 50_000)), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	return vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: disk}}}}})
}

func TestAJobIsExportedFromANamedVCenter(t *testing.T) {
	t.Parallel()
	lab := labWithVM(t)
	c, err := client.New(startDaemon(t, lab), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()

	vms, err := c.VMs(ctx, "lab", 0, "")
	if err != nil || vms.Total != 1 || vms.VMs[0].Path != lab.InventoryPath("web") {
		t.Fatalf("vms: %+v, %v", vms, err)
	}
	out := t.TempDir()
	def := job.Definition{VMPath: vms.VMs[0].Path, OutputPath: out, Options: job.Options{Format: job.FormatRaw}}
	if r, err := c.Check(ctx, def); err != nil || !r.OK || r.VM == nil {
		t.Errorf("check: %+v, %v", r, err)
	}
	none := def
	none.VMPath = "/no/such/vm"
	if r, err := c.Check(ctx, none); err != nil || r.OK || r.Findings[0].Severity != models.SeverityError {
		t.Errorf("check of a VM that is not there: %+v, %v", r, err)
	}
	r, err := c.Submit(ctx, []job.Definition{def}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Watch(ctx, r.JobIDs[0]) {
		if err != nil {
			t.Fatal(err)
		}
	}
	j, err := c.Job(ctx, r.JobIDs[0])
	if err != nil || j.Status != models.StatusCompleted || len(j.Result.Files) == 0 {
		t.Fatalf("job: %+v, %v", j, err)
	}
	if j.Definition.VCenter != "lab" {
		t.Errorf("the job, which named no vCenter, counts for %q", j.Definition.VCenter)
	}
	for _, f := range j.Result.Files {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

// TestTheContractsPythonExportsAVM runs the contract's script, to the letter,
// against the program; the daemon is reached by taking it for a proxy.
func TestTheContractsPythonExportsAVM(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import requests").CombinedOutput(); err != nil {
		t.Fatalf("no python3-requests, run scripts/setup.sh test: %v %s", err, out)
	}
	lab := labWithVM(t)
	url := startDaemon(t, lab)
	const before = `
import json, os, time, requests
pause, time.sleep = time.sleep, lambda seconds: pause(seconds / 100)
job = json.loads(os.environ["JOB"])
`
	const contract = `
resp = requests.post("http://localhost:8080/jobs/submit", json=job)
job_id = resp.json()["job_ids"][0]
while True:
    status = requests.post("http://localhost:8080/jobs/query", json={"job_ids": [job_id]}).json()
    job = status["jobs"][0]
    if job["status"] in ["completed", "failed"]:
        break
    print(f"Progress: {job['progress']['percent_complete']}%")
    time.sleep(5)
`
	j, err := json.Marshal(job.Definition{Name: "example-vm-export", VMPath: lab.InventoryPath("web"), OutputPath: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", before+contract+`print(job["status"], job.get("error"), job["result"]["success"])`)
	cmd.Env = []string{"http_proxy=" + url, "no_proxy=", "PATH=/usr/bin:/bin", "JOB=" + string(j)}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "completed None True\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAJobWithAUserOfItsOwnIsRunAsThatUser(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("the daemon's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := vcenters{
		config: config.Config{VCenters: map[string]config.VCenter{"lab": {URL: "https://vc.example/sdk", Username: "daemon", PasswordFile: file}}},
		getenv: func(string) string { return "" },
	}
	for user, want := range map[string][2]string{"": {"daemon", "the daemon's"}, "alice": {"alice", "her own"}} {
		def := job.Definition{VMPath: "web", Username: user}
		if user != "" {
			def.Password = want[1]
		}
		cfg, err := v.endpoint(def)
		if err != nil || cfg.Username != want[0] || cfg.Password != want[1] || cfg.URL.Host != "vc.example" {
			t.Errorf("user %q: %s with %q at %v, %v", user, cfg.Username, cfg.Password, cfg.URL, err)
		}
	}
}

func TestAJobBringsItsOwnVCenterAndPasswordToAFreshDaemon(t *testing.T) {
	t.Parallel()
	lab := labWithVM(t)
	c, err := client.New(startDaemon(t, lab), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := lab.URL()
	password, _ := u.User.Password()
	r, err := c.Submit(t.Context(), []job.Definition{{
		VMPath: lab.InventoryPath("web"), OutputPath: t.TempDir(),
		VCenterURL: "https://" + u.Host + "/sdk", Username: u.User.Username(), Password: password, Insecure: true,
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Watch(t.Context(), r.JobIDs[0]) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if j, err := c.Job(t.Context(), r.JobIDs[0]); err != nil || j.Status != models.StatusCompleted {
		t.Errorf("job: %+v, %v", j, err)
	}
}

func TestInsecureOfAJobDoesNotWeakenTheDaemonsVCenter(t *testing.T) {
	t.Parallel()
	govc := map[string]string{"GOVC_URL": "vc.example"}
	v := vcenters{
		config: config.Config{VCenters: map[string]config.VCenter{
			"prod": {URL: "https://vc.example/sdk"},
			"lab":  {URL: "https://lab.example/sdk", Insecure: true},
		}},
		getenv: func(name string) string { return govc[name] },
	}
	for name, tt := range map[string]struct {
		def    job.Definition
		ignore bool
	}{
		"not asked for":              {job.Definition{VCenter: "prod"}, false},
		"at an address of its own":   {job.Definition{VCenterURL: "https://own.example/sdk", Insecure: true}, false},
		"at a vCenter that checks":   {job.Definition{VCenter: "prod", Insecure: true}, true},
		"at one that does not":       {job.Definition{VCenter: "lab", Insecure: true}, false},
		"at that of the environment": {job.Definition{Insecure: true}, true},
	} {
		if note := v.insecureIgnored(tt.def); (note != "") != tt.ignore {
			t.Errorf("%s: %q", name, note)
		}
	}
	govc["GOVC_INSECURE"] = "1"
	if note := v.insecureIgnored(job.Definition{Insecure: true}); note != "" {
		t.Errorf("the environment says so too: %q", note)
	}
}
