package api_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
)

// aliases is YAML of a few hundred bytes that would be 10^levels values if aliases
// were copied.
func aliases(levels int, last string) string {
	var b strings.Builder
	b.WriteString("a: &l0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range levels {
		fmt.Fprintf(&b, "b%d: &l%d [%s]\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d,", i), 10), ","))
	}
	return b.String() + last
}

func TestABodyThatIsLargerInsideThanOutsideCostsNothing(t *testing.T) { // not in parallel: it counts what is allocated
	d := start(t, api.Options{})
	const submit, query = "/jobs/submit", "/jobs/query"
	for name, tt := range map[string]struct {
		path, ct, body string
		status         int
	}{
		"aliases of aliases":           {submit, "application/yaml", aliases(9, ""), 400},
		"aliases of aliases, as jobs":  {submit, "application/yaml", aliases(9, "jobs: *l9\n"), 400},
		"one job many times":           {submit, "application/yaml", "- &a {vm_path: /v, output_path: /o}\n" + strings.Repeat("- *a\n", jobfile.MaxJobs), 413},
		"an alias to itself":           {submit, "application/yaml", "jobs: &a [*a, *a]\n", 400},
		"merge keys":                   {submit, "application/yaml", "a: &a {vm_path: /v}\njobs: [{<<: *a, output_path: /o}]\n", 400},
		"lists in lists, JSON":         {submit, "application/json", strings.Repeat("[", 1<<20), 400},
		"objects in objects, JSON":     {submit, "application/json", strings.Repeat(`{"jobs":`, 1<<17), 400},
		"lists in lists, YAML":         {submit, "application/yaml", strings.Repeat("[", 1<<20), 400},
		"lists in lists of any type":   {submit, "text/plain", strings.Repeat("[", 1<<20), 400},
		"lines in lines, YAML":         {submit, "application/yaml", strings.Repeat("- ", 1<<19), 400},
		"questions in questions, YAML": {submit, "application/yaml", strings.Repeat("? ", 1<<19), 400},
		"lists in lists, of a query":   {query, "application/json", `{"job_ids":` + strings.Repeat("[", 1<<20), 400},
		"more jobs than a file holds":  {submit, "application/json", "[" + strings.Repeat("{},", jobfile.MaxJobs) + "{}]", 413},
		"a number without end":         {submit, "application/json", `{"vm_path":"/v","output_path":"/o","priority":` + strings.Repeat("9", 1<<20) + `}`, 400},
		"an exponent without end":      {submit, "application/json", `{"vm_path":"/v","output_path":"/o","priority":1e999999999}`, 400},
		"a key without end":            {submit, "application/json", `{"` + strings.Repeat("k", 1<<20) + `":1}`, 400},
		"a path without end":           {submit, "application/json", `{"vm_path":"/` + strings.Repeat("v", 1<<20) + `","output_path":"/o"}`, 422},
		"documents without end":        {submit, "application/yaml", strings.Repeat("---\na: b\n", 1<<15), 400},
		"an anchor without end":        {submit, "application/yaml", "a: &" + strings.Repeat("x", 1<<20) + " b\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a := d.do("POST", tt.path, tt.ct, tt.body)
			runtime.ReadMemStats(&after)
			if a.status != tt.status || len(a.body) > 10_000 {
				t.Errorf("HTTP %d, want %d; %d bytes: %.300s", a.status, tt.status, len(a.body), a.body)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 512<<20 {
				t.Errorf("it took %d MiB", used>>20)
			}
		})
	}
	if s := decode[models.DaemonStatus](t, d.get("/status")); s.TotalJobs != 0 {
		t.Errorf("%d jobs were taken", s.TotalJobs)
	}
}

func TestABodyThatIsCompressedIsNotUnpacked(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(bytes.Repeat([]byte(" "), 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, encoding := range []string{"gzip", "GZIP", "br", "deflate, gzip"} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", d.URL+"/jobs/submit", bytes.NewReader(packed.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", encoding)
		if a := d.send(req); a.status != http.StatusUnsupportedMediaType || !strings.Contains(a.body, "as it is") {
			t.Errorf("%s: HTTP %d %s", encoding, a.status, a.body)
		}
	}
	if a := d.do("POST", "/jobs/submit", "application/gzip", packed.String()); a.status != 400 {
		t.Errorf("by its media type: HTTP %d %s", a.status, a.body)
	}
}
