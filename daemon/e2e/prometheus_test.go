package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// deployed is the path of a file below deploy.
func deployed(t *testing.T, elements ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", "..", "deploy"}, elements...)...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheAlertRulesDoWhatTheirTestsSay(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "rules", "alerts.yaml"},
		{"test", "rules", "alerts_test.yaml"},
	} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = deployed(t, "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestEveryAlertHasATestThatFiresItAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	tests, err := os.ReadFile(deployed(t, "prometheus", "alerts_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range alertRules(t) {
		fires := regexp.MustCompile(`alertname: ` + rule.Alert + `\n\s+exp_alerts:\n\s+- exp_labels`)
		if !fires.Match(tests) {
			t.Errorf("no test fires %s", rule.Alert)
		}
		if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s lacks a severity, a summary or a description", rule.Alert)
		}
	}
}

// alertRule is one of the alert rules.
type alertRule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	text, err := os.ReadFile(deployed(t, "prometheus", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []alertRule }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatalf("%d groups of rules", len(file.Groups))
	}
	return file.Groups[0].Rules
}

// dashboardQueries are the queries of the dashboard, as Grafana sends them.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(deployed(t, "grafana", "hyper2kvm.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "1m")
	var all []string
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all = append(all, filled.Replace(target.Expr))
		}
	}
	for _, a := range board.Annotations.List {
		all = append(all, filled.Replace(a.Expr))
	}
	if len(all) < 20 {
		t.Fatalf("the dashboard has only %d queries", len(all))
	}
	return all
}

// metricName matches the names of metrics in a query.
var metricName = regexp.MustCompile(`\b(?:hyper2kvm|process|go)_[a-z0-9_]+\b|\bup\b`)

func TestARealPrometheusScrapesEveryMetricThatRulesAndDashboardUse(t *testing.T) {
	t.Parallel()
	lab, _ := guest(t, vspheretest.Config{Faults: []string{"cut:at=1MiB,disk=0"}})
	h := newHome(t, lab)
	config, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	certs := filepath.Join(h.dir, "tls")
	hyper2kvmd(t, "tls", "init", "-dir", certs)
	h.write("config.yaml", string(config)+"metrics: {addr: '127.0.0.1:0'}\n"+
		"listen: {addrs: ['http://127.0.0.1:0', 'localhost:0'], cert_file: "+certs+"/server.crt, key_file: "+certs+"/server.key}\n")
	h.configured = true
	d := h.start()
	target := regexp.MustCompile(`"metrics are served","addr":"([^"]+)"`).FindStringSubmatch(h.said())
	if target == nil {
		t.Fatalf("the log does not tell where metrics are served:\n%s", h.said())
	}
	if _, err := d.Submit(t.Context(), []job.Definition{{
		ID: "guest", VMPath: "guest", OutputPath: h.out("guest"), Options: job.Options{Format: job.FormatQcow2},
	}}, true); err != nil {
		t.Fatal(err)
	}
	for e, err := range d.Watch(t.Context(), "guest") {
		if err != nil {
			t.Fatalf("watch: %+v, %v", e, err)
		}
	}
	token := filepath.Join(h.dir, "prometheus.token")
	hyper2kvmd(t, "token", "create", "-name", "prometheus", "-role", "viewer", "-state-dir", filepath.Join(h.dir, "state"), "-o", token)
	secure := slices.IndexFunc(d.urls, func(u string) bool { return strings.HasPrefix(u, "https:") })
	_, port, err := net.SplitHostPort(strings.TrimPrefix(d.urls[secure], "https://"))
	if err != nil {
		t.Fatal(err)
	}
	p := startPrometheus(t, target[1], fmt.Sprintf("  - job_name: api\n    scheme: https\n    tls_config: {ca_file: %s/ca.crt}\n"+
		"    authorization: {credentials_file: %s}\n    static_configs: [targets: ['localhost:%s']]\n", certs, token, port))
	p.await(`hyper2kvm_runs_total{job="hyper2kvm",outcome="completed"} == 1`)
	p.await(`hyper2kvm_received_bytes_total{route="stream"} > 2e6`)
	p.await(`hyper2kvm_transfer_retries_total{route="stream",cause="cut"} > 0`)
	p.await(`hyper2kvm_disks_verified_total{by="manifest"} == 2`)
	p.await(`hyper2kvm_written_bytes_total{route="stream"} > 2e6`)
	p.await(`hyper2kvm_output_bytes_total > 2e6`)
	p.await(`hyper2kvm_leases_opened_total > 0`)
	p.await(`hyper2kvm_vcenter_state{vcenter="lab",state="usable"} == 1`)
	p.await(`hyper2kvm_queue_wait_seconds_count == 1`)
	p.await(`hyper2kvm_http_request_duration_seconds_count{route="/jobs/submit",code="200"} == 1`)
	p.await(`hyper2kvm_filesystem_free_bytes > 0`)
	p.await(`hyper2kvm_daemons{job="hyper2kvm",state="active"} == 1`)
	p.await(`hyper2kvm_store_outages_total{job="hyper2kvm"} == 0`)
	p.await(`up{job="hyper2kvm"} == 1`)
	p.await(`up{job="api"} == 1`) // over TLS, as a viewer
	p.await(`hyper2kvm_certificate_not_after_timestamp_seconds{job="api"} > time()`)

	var names []string
	p.get("/api/v1/label/__name__/values", &names)
	queries := dashboardQueries(t)
	for _, rule := range alertRules(t) {
		queries = append(queries, rule.Expr)
	}
	for _, q := range queries {
		p.query(q) // which fails when it is none
		for _, name := range metricName.FindAllString(q, -1) {
			if !slices.Contains(names, name) {
				t.Errorf("%s is not among the metrics that were scraped; it is used in %s", name, q)
			}
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, State, LastError string }
		}
	}
	p.get("/api/v1/rules", &rules)
	loaded := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			loaded++
			if r.Health == "err" || r.State == "firing" {
				t.Errorf("rule %s: %+v", r.Name, r)
			}
		}
	}
	if loaded != len(alertRules(t)) {
		t.Errorf("%d rules are loaded, want %d", loaded, len(alertRules(t)))
	}
}

// prometheus is a Prometheus that scrapes a daemon.
type prometheus struct {
	t    *testing.T
	addr string
	log  *bytes.Buffer
}

// hyper2kvmd runs a subcommand that must succeed.
func hyper2kvmd(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(program(t, "hyper2kvmd"), args...).CombinedOutput(); err != nil {
		t.Fatalf("hyper2kvmd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// startPrometheus starts one with the project's own rules and scrape job, which reads
// from target every second, and other jobs beside it.
func startPrometheus(t *testing.T, target, others string) *prometheus {
	t.Helper()
	text, err := os.ReadFile(deployed(t, "prometheus", "prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("localhost:9464", target, "- alerts.yaml", "- "+deployed(t, "prometheus", "alerts.yaml")).Replace(string(text))
	dir := t.TempDir()
	path := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(path, []byte("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"+config+others), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t, addr: freeAddress(t), log: new(bytes.Buffer)}
	cmd := exec.Command("prometheus", "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.addr, "--log.level=warn")
	cmd.Stderr = p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus says:\n%s", p.log)
		}
	})
	return p
}

// freeAddress is for a program that tells nobody which port it took itself. It is below
// those that the kernel gives to whoever names none: nobody has it until that program does.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000)))
	if err != nil { // somebody has just that one
		return freeAddress(t)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// await asks until the query has a result: Prometheus scrapes when it does.
func (p *prometheus) await(query string) {
	p.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last string
	for range 3000 {
		n, err := p.ask(query)
		if n > 0 {
			return
		}
		last = fmt.Sprint(err)
		<-tick.C
	}
	all, _ := p.ask(metricName.FindString(query))
	p.t.Fatalf("%s has no result after five minutes (%s); of the metric there are %d series", query, last, all)
}

// query checks that a query is one, and returns how many results it has.
func (p *prometheus) query(query string) int {
	p.t.Helper()
	n, err := p.ask(query)
	if err != nil {
		p.t.Errorf("%s: %v", query, err)
	}
	return n
}

func (p *prometheus) ask(query string) (int, error) {
	var data struct{ Result []any }
	err := p.fetch("/api/v1/query?query="+url.QueryEscape(query), &data)
	return len(data.Result), err
}

// get reads the data of an answer of its API.
func (p *prometheus) get(path string, data any) {
	p.t.Helper()
	if err := p.fetch(path, data); err != nil {
		p.t.Fatalf("%s: %v", path, err)
	}
}

func (p *prometheus) fetch(path string, data any) error {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		return err
	}
	req.Close = true // so that no connection outlives the test
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%d: %s", resp.StatusCode, answer.Error)
	}
	return nil
}
