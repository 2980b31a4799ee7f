package api_test

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

// contractPython is the script of the contract, to the letter.
const contractPython = `
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

// The script runs as it is: its port is reached by taking the daemon for a
// proxy, and its pauses wait for the test instead of five seconds.
func TestTheContractsPythonRunsUnchanged(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import requests").CombinedOutput(); err != nil {
		t.Fatalf("no python3-requests, run scripts/setup.sh test: %v %s", err, out)
	}
	d := start(t, api.Options{})
	const before = `
import sys, time, requests
time.sleep = lambda seconds: (sys.stdout.flush(), sys.stdin.readline())
job = {"name": "example-vm-export", "vm_path": "/data/vm/busy", "output_path": "/tmp/export-test-vm",
       "options": {"parallel_downloads": 4, "remove_cdrom": True, "show_individual_progress": False}}
`
	cmd := exec.CommandContext(t.Context(), python, "-c", before+contractPython+`print(job["status"], job["result"]["success"])`)
	cmd.Env = []string{"http_proxy=" + d.URL, "no_proxy=", "PATH=/usr/bin:/bin"}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-d.Runner.Started
	lines := bufio.NewScanner(out)
	var last string
	for verdict := false; lines.Scan(); {
		last = lines.Text()
		if strings.HasPrefix(last, "Progress: 42") && !verdict {
			verdict = true
			d.Runner.Verdict("/data/vm/busy") <- nil
		}
		if strings.HasPrefix(last, "Progress: ") {
			fmt.Fprintln(in)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if last != "completed True" {
		t.Errorf("the script's last line: %q", last)
	}
}
