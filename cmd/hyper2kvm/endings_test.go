package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// As in "hyper2kvm list | head": whoever wanted a few lines has them.
func TestACommandWhoseReaderHasGoneEndsQuietly(t *testing.T) {
	t.Parallel()
	program := program(t)
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "erp"}}})
	for _, args := range [][]string{
		{"list"}, {"list", "-json"}, {"list", "erp", "-columns", "path"}, {"check", "-all"}, {"check", "-all", "-format", "csv"}, {"version"}, {"man"}, {"-help"}, {"completion", "bash"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := command(program, lab, args...)
		var told bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &told
		err = cmd.Run()
		w.Close()
		if err != nil || told.Len() > 0 {
			t.Errorf("%q: %v, and it says %q", args, err, &told)
		}
	}
	if n := lab.Sessions(); n > 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestWhatIsNoVSphereIsNoConnection(t *testing.T) {
	t.Parallel()
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	urls := map[string]string{}
	for name, h := range map[string]http.HandlerFunc{
		"no such path":     answer(http.StatusNotFound, "not found"),
		"no such method":   answer(http.StatusMethodNotAllowed, ""),
		"a page":           answer(http.StatusOK, "<html>welcome</html>"),
		"a page in XML":    answer(http.StatusOK, "<Envelope><Body><welcome/></Body></Envelope>"),
		"half an envelope": answer(http.StatusOK, "<Envelope>"),
		"JSON":             answer(http.StatusOK, `{"ok": true}`),
		"a gate":           answer(http.StatusForbidden, ""),
		"a login":          answer(http.StatusUnauthorized, ""),
		"elsewhere":        answer(http.StatusMovedPermanently, ""),
		"an error page":    answer(http.StatusInternalServerError, "<html>oops</html>"),
		"a bad gateway":    answer(http.StatusBadGateway, ""),
	} {
		srv := httptest.NewTLSServer(h)
		t.Cleanup(srv.Close)
		urls[name] = srv.URL + "/sdk"
	}
	plain := httptest.NewServer(answer(http.StatusOK, ""))
	t.Cleanup(plain.Close)
	urls["no TLS"] = strings.Replace(plain.URL, "http:", "https:", 1) + "/sdk"
	urls["nobody"] = "https://127.0.0.1:1/sdk" // no test is given that port
	urls["no such name"] = "https://nosuch.invalid/sdk"
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"GOVC_URL": url, "GOVC_USERNAME": "u", "GOVC_PASSWORD": "p", "GOVC_INSECURE": "true"}
			var out, errOut strings.Builder
			if code := run(t.Context(), []string{"hyper2kvm", "list"}, &out, &errOut, func(k string) string { return env[k] }); code != exitConnect {
				t.Errorf("exit code %d: %s", code, &errOut)
			}
			if !strings.Contains(errOut.String(), strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/sdk")) {
				t.Errorf("it does not name the address: %s", &errOut)
			}
		})
	}
}

func TestAnInterruptStopsAFleetInGoodOrderAndResumeGoesOn(t *testing.T) {
	t.Parallel()
	program := program(t)
	raw := sparse(t, 8<<20, 0, 4<<20)
	disks := []vspheretest.Disk{{Path: raw}}
	lab := vspheretest.Start(t, vspheretest.Config{Faults: []string{"stall:at=2KB,vm=b"}, VMs: []vspheretest.VM{
		{Name: "a", Disks: disks}, {Name: "b", Disks: disks}, {Name: "c", Disks: disks},
	}})
	dir := t.TempDir()
	start := func(args ...string) (*exec.Cmd, *strings.Builder) {
		cmd := command(program, lab, args...)
		cmd.Env = append(cmd.Env, "HOME="+dir, "XDG_STATE_HOME=")
		told := new(strings.Builder)
		cmd.Stdout, cmd.Stderr = told, told
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, told
	}
	stalled := lab.ByteReached("b", 0, 1000)
	cmd, told := start("export", "-vm", "?", "-output", dir+"/out", "-format", "raw", "-parallel-vms", "1", "-report", dir+"/report.html")
	<-stalled
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Fatalf("%v\n%s", err, told)
	}
	for _, part := range []string{"SUCCESS a: ", "b: stopped", "1 of 3 VM(s) done, 1 stopped, 1 not begun", "hyper2kvm resume"} {
		if !strings.Contains(told.String(), part) {
			t.Errorf("%q is missing from\n%s", part, told)
		}
	}
	if page, err := os.ReadFile(dir + "/report.html"); err != nil || !strings.Contains(string(page), "1 of 3 VMs done") {
		t.Errorf("the report: %v\n%s", err, page)
	}
	if left := lab.Leases(); len(left) > 0 {
		t.Errorf("leases are left: %v", left)
	}
	served := lab.BytesServed("a", 0)
	cmd, told = start("resume")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("resume: %v\n%s", err, told)
	}
	if !strings.Contains(told.String(), "3 of 3 VM(s) done (1 by an earlier run)") || lab.BytesServed("a", 0) != served {
		t.Errorf("a was fetched again, or it is not told:\n%s", told)
	}
	for _, vm := range []string{"a", "b", "c"} {
		if text, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, dir+"/out/"+vm+"/"+vm+"-disk-0.raw").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestShellsCompleteValuesWithoutTheNetwork(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	rememberInventory("vc.example.com", []vsphere.VM{{Path: "/DC0/vm/erp"}, {Path: "/DC0/vm/web"}})
	if err := os.MkdirAll(os.Getenv("HOME")+"/.config/hyper2kvm", 0o700); err != nil {
		t.Fatal(err)
	}
	saved := "profiles: [{name: lab, url: 'https://vc.example.com/sdk'}, {name: prod, url: 'https://p.example.com/sdk'}]"
	if err := os.WriteFile(os.Getenv("HOME")+"/.config/hyper2kvm/profiles.yaml", []byte(saved), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"GOVC_URL": "vc.example.com"}
	for words, want := range map[string]string{
		"export -format":             "ovf\nova\nraw\nqcow2\n",
		"export --format q":          "qcow2\n",
		"check -format":              "ovf\nova\nraw\nqcow2\ntable\ncsv\njson\nhtml\n",
		"export -vm":                 "/DC0/vm/erp\n/DC0/vm/web\n",
		"check -snapshot -vm /DC0/v": "/DC0/vm/erp\n/DC0/vm/web\n",
		"export -vm /DC0/vm/w":       "/DC0/vm/web\n",
		"-profile":                   "lab\nprod\n",
		"list -profile p":            "prod\n",
		"export -transport":          "nfc\ndatastore\nnfc902\nvddk\nauto\n",
		"check -verify f":            "full\n",
		"list -sort u":               "used\nuuid\n",
		"list -columns path,u":       "path,used\npath,uuid\n",
	} {
		var out, errOut strings.Builder
		args := append(append([]string{"hyper2kvm"}, strings.Fields(words)...), "--generate-shell-completion")
		if code := run(t.Context(), args, &out, &errOut, func(k string) string { return env[k] }); code != 0 || out.String() != want {
			t.Errorf("%q: exit code %d, %q %s, want %q", words, code, out.String(), &errOut, want)
		}
	}
}
