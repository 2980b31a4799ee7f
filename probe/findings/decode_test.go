package findings_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

func TestAReportThatCannotBeReadIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ report, want string }{
		"empty":                  {"", "line 1, column 1: not JSON: unexpected end of JSON input"},
		"half":                   {"{\n \"format\": 1,\n", "line 2, column 14: not JSON"},
		"no object":              {"[]", "a array where a"},
		"no format":              {`{"complete": true}`, "format: it is missing: this is no report of hyper2kvm probe"},
		"a newer format":         {`{"format": 2, "unheard": {}}`, "format: 2 is newer than 1"},
		"no format ever":         {`{"format": 0}`, "format: 0 is no format that there has been"},
		"an unknown field":       {"{\"format\": 1,\n  \"lease\": {\"rnage\": \"honoured\"}}", `line 2, column 19: there is no field "lease.rnage"`},
		"the second of a name":   {`{"format": 1, "service": {"version": "8.0.3"}, "lease": {"version": "1"}}`, `there is no field "lease.version"`},
		"in a list":              {`{"format": 1, "rates": [{"channel": "lease", "streams": 1, "speed": 1}]}`, `there is no field "rates[].speed"`},
		"an unknown word":        {`{"format": 1, "lease": {"range": "sometimes"}}`, `lease.range: "sometimes": want one of honoured, ignored, refused`},
		"a number too large":     {`{"format": 1, "lease": {"timeout_s": 900000}}`, "lease.timeout_s: 900000 is not between 0 and 86400"},
		"another type":           {"{\"format\": 1,\n\"lease\": {\"timeout_s\": \"long\"}}", "line 2, column"},
		"a list with a bad word": {`{"format": 1, "rates": [{"channel": "lease", "streams": 1, "served": 1}, {"channel": "post", "streams": 1, "served": 1}]}`, "rates[1].channel"},
		"a name as a version":    {`{"format": 1, "service": {"version": "vcenter.corp.example"}}`, "service.version"},
		"a name as a privilege":  {`{"format": 1, "privileges": {"vm of erika": "granted"}}`, "privileges"},
		"negative bytes":         {`{"format": 1, "rates": [{"channel": "lease", "streams": 1, "served": 1, "bytes": -1}]}`, "rates[0].bytes"},
		"more behind it":         {`{"format": 1} {"format": 1}`, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := findings.Decode([]byte(c.report))
			if !errors.Is(err, findings.ErrNotReport) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAnErrorNamesTheFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "mine.json")
	if err := os.WriteFile(name, []byte(`{"format": 9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findings.Read(name); err == nil || !strings.Contains(err.Error(), name+": format: 9 is newer") {
		t.Errorf("error %v", err)
	}
	if _, err := findings.Read(name + ".gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestAnOlderReportWithFewerFieldsIsRead(t *testing.T) {
	t.Parallel()
	r, err := findings.Decode([]byte(`{"format": 1, "lease": {"range": "ignored"}}`))
	if err != nil || r.Lease.Range != findings.Ignored || r.Complete {
		t.Fatalf("%+v, %v", r, err)
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil || !strings.Contains(b.String(), "ignored") {
		t.Errorf("%s, %v", b.String(), err)
	}
}

func TestAReportIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	r := findings.Report{
		Format: 1, Program: "v1.2.3", Taken: "2026-11-28", Complete: true, Privileges: map[string]findings.Answer{"VApp.Export": findings.Missing},
		Lease: findings.Lease{Opened: findings.No, Why: findings.NoPermission, HTTP: findings.HTTP{Range: findings.Honoured}},
		Rates: []findings.Rate{{Channel: findings.ByLease, Streams: 8, Served: 3, Bytes: 7, PerSec: 8}}, Advice: &findings.Advice{Transport: "none"},
	}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := findings.Decode(b); err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("%v\n%+v\n%+v", err, again, r)
	}
}

func TestAReportWithAForeignTextIsNotWritten(t *testing.T) {
	t.Parallel()
	r := findings.Report{Format: 1, Lease: findings.Lease{Why: "the VM /DC0/vm/secret is busy"}}
	if b, err := r.Encode(); err == nil {
		t.Errorf("it is written: %s", b)
	}
}

// names lists the JSON names of every field of a report.
func names(typ reflect.Type, out map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return
	}
	for f := range typ.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			out[name] = true
		}
		names(f.Type, out)
	}
}

func TestEveryFieldOfAReportIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/probe.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	names(reflect.TypeFor[findings.Report](), fields)
	for name := range fields {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/probe.md does not have the field %s", name)
		}
	}
}

func TestTheListOfFactsMarksThoseThatAProbeSettles(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/vsphere-facts.md")
	if err != nil {
		t.Fatal(err)
	}
	settles := map[string]bool{}
	for _, fact := range findings.Facts() {
		settles[fact] = true
	}
	for line := range strings.Lines(string(doc)) {
		rest, ok := strings.CutPrefix(line, "- F-")
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, " ")
		marked := strings.Contains(line, "{probe}")
		if fact := "F-" + number; marked != settles[fact] {
			t.Errorf("%s is marked: %v; a probe looks at it: %v", fact, marked, settles[fact])
		} else {
			delete(settles, fact)
		}
	}
	for fact := range settles {
		t.Errorf("there is no fact %s", fact)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format": 1, "complete": true, "lease": {"range": "honoured"}, "rates": [{"channel": "lease", "streams": 1, "served": 1}]}`))
	f.Add([]byte(`{"format": 1, "privileges": {"VApp.Export": "granted"}, "advice": {"transport": "nfc", "parallel": 2, "bytes_per_second": 3}}`))
	f.Add([]byte(`{"format": 2}`))
	f.Add([]byte(`{"format": 1, "hosts": {"versions": ["8.0.3"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := findings.Decode(b)
		if err != nil {
			if !errors.Is(err, findings.ErrNotReport) || len(err.Error()) > 10_000 {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		var text strings.Builder
		if err := r.Write(&text); err != nil {
			t.Fatal(err)
		}
		second, err := findings.Decode(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
		if third, err := second.Encode(); err != nil || string(third) != string(again) {
			t.Fatalf("%v\n%s\n%s", err, again, third)
		}
	})
}
