package report_test

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/report"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// survey reads the VMs of a lab.
func survey(t *testing.T, cfg vspheretest.Config) []vsphere.Surveyed {
	t.Helper()
	lab := vspheretest.Start(t, cfg)
	env := map[string]string{}
	for _, line := range lab.Env() {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
	to, err := vsphere.ConfigFromEnv(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	c, err := vsphere.Dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	seen, err := c.Survey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestEveryVMIsJudgedAsItsExportWouldBe(t *testing.T) {
	t.Parallel()
	seen := survey(t, vspheretest.Config{BulkVMs: 2, VMs: []vspheretest.VM{
		{Name: "empty"}, {Name: "tpm", VTPM: true, PoweredOn: true},
	}})
	for _, c := range []struct {
		options job.Options
		want    map[string]string
	}{
		{job.Options{}, map[string]string{"empty": report.NotExportable, "tpm": report.NotExportable, "bulk-00000": report.Ready, "bulk-00001": report.NeedsShutdown}},
		{job.Options{Snapshot: true}, map[string]string{"empty": report.NotExportable, "tpm": report.NotExportable, "bulk-00000": report.Ready, "bulk-00001": report.Ready}},
	} {
		r := report.NewReadiness(seen, report.Options{Export: c.options})
		for _, j := range r.VMs {
			if j.State != c.want[j.Name] {
				t.Errorf("%s is %s, want %s: %v", j.Name, j.State, c.want[j.Name], j.Obstacles)
			}
			if j.VTPM != (j.Name == "tpm") {
				t.Errorf("%s has a vTPM: %t", j.Name, j.VTPM)
			}
		}
		if r.Total != 4 || r.Ready+r.NeedsShutdown+r.NotExportable != r.Total {
			t.Errorf("counts are %+v", r)
		}
	}
}

// hostile is a report whose texts are attacks.
func hostile() report.Readiness {
	var r report.Readiness
	for _, name := range []string{
		"=HYPERLINK(\"http://x\")", "+1", "-1+1", "@SUM(A1)", "\t=1", " =1", "＝1", "|calc", "a;=1", `quote"s`, "new\nline", "<script>alert(1)</script>", "esc\x1b[2J", "plain",
	} {
		r.VMs = append(r.VMs, report.Judged{
			Name: name, Path: name, State: report.Ready, Guest: name, Datastores: []string{name}, Networks: []string{name},
			Obstacles: []vsphere.Obstacle{{Text: name, Hint: name}},
		})
	}
	r.Total, r.Generated = len(r.VMs), time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	return r
}

func TestASpreadsheetFindsNoFormulaInTheCSV(t *testing.T) {
	t.Parallel()
	r := hostile()
	var b strings.Builder
	if err := r.CSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(rows) != len(r.VMs)+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		for _, c := range row {
			if c != "" && strings.ContainsAny(strings.TrimLeft(c, " ")[:1], "=+-@\t\r|") || strings.HasPrefix(c, "＝") || strings.ContainsAny(c, "\n\x1b\t") {
				t.Errorf("the cell %q", c)
			}
		}
	}
	if rows[len(rows)-1][1] != "plain" || rows[1][1] != `'=HYPERLINK("http://x")` {
		t.Errorf("names are %q and %q", rows[len(rows)-1][1], rows[1][1])
	}
	// Where the semicolon separates cells, a quoted one stays whole.
	semicolons := csv.NewReader(strings.NewReader(strings.ReplaceAll(b.String(), `","`, `";"`)))
	semicolons.Comma = ';'
	if rows, err := semicolons.ReadAll(); err != nil || len(rows) != len(r.VMs)+1 {
		t.Errorf("with semicolons: %d rows, %v", len(rows), err)
	}
}

func TestThePageOfReadinessNeedsNothingElseAndRunsNothing(t *testing.T) {
	t.Parallel()
	r := hostile()
	r.VMs[0] = report.Judged{Name: "no link", Obstacles: r.VMs[0].Obstacles[:0]}
	var b strings.Builder
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	alone(t, b.String())
	for _, part := range []string{"&lt;script&gt;", "14 VMs"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("%q is missing", part)
		}
	}
}

func TestTheTableAndTheJSONOfReadinessAreSafeAndWhole(t *testing.T) {
	t.Parallel()
	r := hostile()
	for _, row := range r.Table() {
		if text := strings.Join(row, " "); strings.ContainsAny(text, "\x1b\n\t") {
			t.Errorf("a row is %q", text)
		}
	}
	var b strings.Builder
	if err := r.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var again report.Readiness
	if err := json.Unmarshal([]byte(b.String()), &again); err != nil || len(again.VMs) != len(r.VMs) || again.VMs[0].Name != r.VMs[0].Name {
		t.Errorf("%v, %d VMs", err, len(again.VMs))
	}
	var empty strings.Builder
	if err := report.NewReadiness(nil, report.Options{}).JSON(&empty); err != nil || !strings.Contains(empty.String(), `"vms": []`) {
		t.Errorf("without VMs: %s", &empty)
	}
}
