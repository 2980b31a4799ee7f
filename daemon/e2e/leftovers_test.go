package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// forms are the ways in which a secret may stand somewhere.
func forms(t *testing.T, secret string) map[string][]byte {
	t.Helper()
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	var loose, escaped bytes.Buffer
	enc := json.NewEncoder(&loose)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(secret); err != nil {
		t.Fatal(err)
	}
	if err := xml.EscapeText(&escaped, []byte(secret)); err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{
		"plain":       []byte(secret),
		"JSON":        bytes.Trim(quoted, `"`),
		"loose JSON":  bytes.Trim(bytes.TrimSpace(loose.Bytes()), `"`),
		"Go":          []byte(strings.Trim(strconv.Quote(secret), `"`)),
		"query":       []byte(url.QueryEscape(secret)),
		"path":        []byte(url.PathEscape(secret)),
		"user info":   []byte(strings.TrimPrefix(url.UserPassword("", secret).String(), ":")),
		"XML":         escaped.Bytes(),
		"HTML":        []byte(html.EscapeString(secret)),
		"hexadecimal": []byte(hex.EncodeToString([]byte(secret))),
	}
	for shift := range 3 { // where in a longer text it begins decides how it is encoded
		whole := base64.StdEncoding.EncodeToString(append(bytes.Repeat([]byte{0}, shift), secret...))
		inner := strings.TrimRight(whole, "=")
		inner = inner[(shift*8+5)/6+1 : len(inner)-2]
		all[fmt.Sprintf("base64 at %d", shift)] = []byte(inner)
		all[fmt.Sprintf("URL's base64 at %d", shift)] = []byte(strings.NewReplacer("+", "-", "/", "_").Replace(inner))
	}
	return all
}

// search finds secrets.
type search struct {
	t       *testing.T
	secrets map[string]map[string][]byte // by name and form
}

// in reports every form of every secret that is in a text.
func (s search) in(where string, text []byte) {
	s.t.Helper()
	for name, all := range s.secrets {
		for form, look := range all {
			if bytes.Contains(text, look) {
				s.t.Errorf("%s holds %s as %s", where, name, form)
			}
		}
	}
}

// below looks into every file of a directory, and at its name.
func (s search) below(dir string) {
	s.t.Helper()
	eachFile(s.t, dir, func(path string, data []byte) {
		s.in("the name "+path, []byte(path))
		s.in(path, data)
	})
}

func TestASecretIsFoundInEachFormThatIsLookedFor(t *testing.T) {
	t.Parallel()
	const secret = `p&ss <w>"ö'/+%\ 4711`
	looks := forms(t, secret)
	for what, text := range map[string]string{
		"a basic authorization": base64.StdEncoding.EncodeToString([]byte("administrator@vsphere.local:" + secret)),
		"a longer one":          base64.StdEncoding.EncodeToString([]byte("root:" + secret + "\n")),
		"an URL":                (&url.URL{Scheme: "https", User: url.UserPassword("u", secret), Host: "vc"}).String(),
		"a form":                url.Values{"password": {secret}}.Encode(),
		"a log line":            fmt.Sprintf("error=%q", secret),
		"SOAP":                  "<password>" + html.EscapeString(secret) + "</password>",
	} {
		found := false
		for _, look := range looks {
			found = found || strings.Contains(text, string(look))
		}
		if !found {
			t.Errorf("in %s it is not found", what)
		}
	}
}

// A full run: passwords from a command, a variable, and jobs; accepted and refused;
// then everything is looked through that it has left, said, or shown.
func TestNoPasswordIsLeftAnywhereAfterAFullRun(t *testing.T) {
	t.Parallel()
	const (
		right = `p&ss <w>"ö'/+%\ 4711`
		wrong = `wr&ng <w>"ö'/+%\ 0815`
	)
	lab := vspheretest.Start(t, vspheretest.Config{Password: right, VMs: []vspheretest.VM{{
		Name: "guest", Disks: []vspheretest.Disk{{Path: rawDisk(t, 4*mib, 2*mib, 3)}},
	}}})
	h := newHome(t, lab, "-log-level", "debug")
	if err := os.Remove(filepath.Join(h.dir, "password-lab")); err != nil {
		t.Fatal(err)
	}
	child := filepath.Join(h.dir, "child")
	if err := os.Mkdir(child, 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir() // what holds the password itself
	command := filepath.Join(elsewhere, "get-password")
	if err := os.WriteFile(filepath.Join(elsewhere, "pw"), []byte(right+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(command, []byte("#!/bin/sh\ncat /proc/self/environ >"+child+"/environ\ncat "+elsewhere+"/pw\ncat "+elsewhere+"/pw >&2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	u := lab.URL()
	user := u.User.Username()
	u.User = nil
	vcenter := func(name, password string) string {
		return fmt.Sprintf("  %s: {url: %s, username: %s, insecure: true, %s}\n", name, u, user, password)
	}
	h.write("config.yaml", "metrics: {addr: '127.0.0.1:0'}\nvcenters:\n"+
		vcenter("lab", "password_command: ["+command+"]")+
		vcenter("variable", "password_env: THE_PASSWORD")+
		vcenter("refused", "password_env: THE_WRONG_PASSWORD"))
	h.env = append(h.env, "THE_PASSWORD="+right, "THE_WRONG_PASSWORD="+wrong, "GOVC_PASSWORD="+wrong)
	d := h.start()
	def := func(id string, change func(*job.Definition)) job.Definition {
		j := job.Definition{ID: id, VMPath: "guest", OutputPath: h.out(id), Options: job.Options{Format: job.FormatQcow2}}
		change(&j)
		return j
	}
	own := func(password string) func(*job.Definition) {
		return func(j *job.Definition) {
			j.VCenterURL, j.Username, j.Password, j.Insecure = u.String(), user, password, true
		}
	}
	jobs := []job.Definition{
		def("command", func(j *job.Definition) { j.VCenter = "lab" }),
		def("variable", func(j *job.Definition) { j.VCenter = "variable" }),
		def("own", own(right)),
		def("own-refused", own(wrong)),
		def("waits", func(j *job.Definition) { j.VCenter = "refused" }),
	}
	if _, err := d.Submit(t.Context(), jobs, true); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"command": "completed", "variable": "completed", "own": "completed", "own-refused": "failed"} {
		for e, err := range d.Watch(t.Context(), id) {
			if err != nil {
				t.Fatalf("watch %s: %+v, %v", id, e, err)
			}
		}
		if j, err := d.Job(t.Context(), id); err != nil || string(j.Status) != want {
			t.Errorf("job %s is %s (%s), %v; want %s", id, j.Status, j.Error, err, want)
		}
	}

	s := search{t, map[string]map[string][]byte{"the password": forms(t, right), "the wrong password": forms(t, wrong)}}
	ask := func(method, path, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, d.BaseURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || len(text) == 0 {
			t.Errorf("%s %s: %d, %d bytes, %v", method, path, resp.StatusCode, len(text), err)
		}
		s.in(fmt.Sprintf("the answer to %s %s", method, path), text)
		s.in("its header", fmt.Appendf(nil, "%v", resp.Header))
	}
	body := func(v any) string {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, path := range []string{
		"/health", "/health/ready", "/status", "/limits", "/metrics", "/audit", "/openapi.json", "/openapi.yaml",
		"/vms?vcenter=lab", "/vms?vcenter=variable", "/vms?vcenter=refused", "/jobs/waits", "/jobs/no-such-job",
	} {
		ask(http.MethodGet, path, "")
	}
	for _, j := range jobs[:4] { // the last one has not ended: its events would be waited for
		ask(http.MethodGet, "/jobs/"+j.ID, "")
		ask(http.MethodGet, "/jobs/"+j.ID+"/events", "")
		ask(http.MethodPost, "/jobs/check", body(j))
	}
	ask(http.MethodPost, "/jobs/query", `{"all":true}`)
	ask(http.MethodPost, "/jobs/submit", body(jobs[2]))                                                // which exists
	ask(http.MethodPost, "/jobs/submit", strings.Replace(body(jobs[2]), `"password"`, `"pasword"`, 1)) // a key that is unknown
	ask(http.MethodPost, "/jobs/submit", `{"vm_path":{"password":`+body(right)+`}}`)
	ask(http.MethodPost, "/jobs/submit", `{"password":`+body(right)) // cut
	ask(http.MethodPost, "/jobs/own-refused/retry", "")
	for e, err := range d.Watch(t.Context(), "own-refused") {
		if err != nil {
			t.Fatalf("watch: %+v, %v", e, err)
		}
	}
	ask(http.MethodPost, "/vcenters/refused/resume", "")
	ask(http.MethodPost, "/jobs/cancel", `{"job_ids":["waits"]}`)
	s.below(filepath.Join(h.dir, "state"))
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.cmd.Process.Pid))
	if err != nil || len(cmdline) == 0 {
		t.Fatal(err)
	}
	s.in("the command line", cmdline)
	d.stop(t)
	s.below(h.dir) // configuration, state, output, and what the command was given
	s.in("the log", []byte(h.said()))
	if said := h.said(); !strings.Contains(said, `"level":"DEBUG"`) || !strings.Contains(said, "(hidden)") {
		t.Error("the log is not that of a run at level debug, or lacks what the command said")
	}
}
