package jobfile_test

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
)

const (
	jsonType = "application/json"
	yamlType = "application/x-yaml"
)

// contractYAML is the job file of the public contract.
const contractYAML = `name: "example-vm-export"
vm_path: "/data/vm/XX-win2019-x86_64 - Clone"      # inventory path
output_path: "/tmp/export-test-vm"
options:
  parallel_downloads: 4
  remove_cdrom: true
  show_individual_progress: false
`

func contractJob() job.Definition {
	return job.Definition{
		Name:       "example-vm-export",
		VMPath:     "/data/vm/XX-win2019-x86_64 - Clone",
		OutputPath: "/tmp/export-test-vm",
		Options:    job.Options{ParallelDownloads: 4, RemoveCDROM: true},
	}
}

func decode(text, contentType string) (jobfile.Batch, error) {
	return jobfile.Decode(strings.NewReader(text), contentType)
}

func TestAJobFileIsReadInAnyOfItsForms(t *testing.T) {
	t.Parallel()
	contractJSON := `{"name": "example-vm-export", "vm_path": "/data/vm/XX-win2019-x86_64 - Clone",
		"output_path": "/tmp/export-test-vm", "options": {"parallel_downloads": 4, "remove_cdrom": true}}`
	minimal := job.Definition{VMPath: "a", OutputPath: "/o"}
	for name, test := range map[string]struct {
		text, contentType string
		want              jobfile.Batch
	}{
		"a job in YAML":              {contractYAML, yamlType, jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"a job in JSON":              {contractJSON, jsonType, jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"YAML of an unknown type":    {contractYAML, "text/plain", jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"JSON without a type":        {contractJSON, "", jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"JSON called YAML":           {contractJSON, "text/yaml; charset=utf-8", jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"flow YAML of unknown type":  {`{vm_path: a, output_path: /o}`, "", jobfile.Batch{Jobs: []job.Definition{minimal}}},
		"YAML behind a BOM":          {"\ufeff" + contractYAML, yamlType, jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"JSON behind a BOM":          {"\ufeff" + contractJSON, jsonType, jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"a BOM and no type":          {"\ufeff\r\n" + contractJSON, "", jobfile.Batch{Jobs: []job.Definition{contractJob()}}},
		"a batch in YAML":            {"atomic: true\njobs:\n- {vm_path: a, output_path: /o}\n", yamlType, jobfile.Batch{Jobs: []job.Definition{minimal}, Atomic: true}},
		"a batch in JSON":            {`{"jobs":[{"vm_path":"a","output_path":"/o"}]}`, jsonType, jobfile.Batch{Jobs: []job.Definition{minimal}}},
		"a bare list in YAML":        {"- {vm_path: a, output_path: /o}\n", yamlType, jobfile.Batch{Jobs: []job.Definition{minimal}}},
		"a bare list in JSON":        {`[{"vm_path":"a","output_path":"/o"}]`, jsonType, jobfile.Batch{Jobs: []job.Definition{minimal}}},
		"nulls, which are left out":  {`{"vm_path":"a","output_path":"/o","options":null,"id":null}`, jsonType, jobfile.Batch{Jobs: []job.Definition{minimal}}},
		"aliases":                    {"- {vm_path: a, output_path: &o /o}\n- {vm_path: a, output_path: *o}\n", yamlType, jobfile.Batch{Jobs: []job.Definition{minimal, minimal}}},
		"numbers that are text":      {"vm_path: 2019\noutput_path: /o\npassword: 0123\n", yamlType, jobfile.Batch{Jobs: []job.Definition{{VMPath: "2019", OutputPath: "/o", Password: "0123"}}}},
		"escapes that only JSON has": {`{"vm_path":"\ud83d\ude00\/","output_path":"/o"}`, "", jobfile.Batch{Jobs: []job.Definition{{VMPath: "😀/", OutputPath: "/o"}}}},
		"JSON with tabs":             {"{\n\t\"vm_path\": \"a\",\n\t\"output_path\": \"/o\"\n}", "", jobfile.Batch{Jobs: []job.Definition{minimal}}},
		"a document marker":          {"---\nvm_path: a\noutput_path: /o\n...\n", yamlType, jobfile.Batch{Jobs: []job.Definition{minimal}}},
		"a definition as given back": {`{"vm_path":"a","output_path":"/o","created_at":"2026-01-02T03:04:05Z"}`, jsonType, jobfile.Batch{Jobs: []job.Definition{{VMPath: "a", OutputPath: "/o", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}}},
		"every field and every option": {everything, yamlType, jobfile.Batch{Jobs: []job.Definition{{
			ID: "i", Name: "n", VMPath: "a", OutputPath: "/o", VCenter: "v", VCenterURL: "https://u", Username: "u", Password: "p",
			Insecure: true, Thumbprint: "t", Priority: -5,
			Options: job.Options{
				ParallelDownloads: 1, RemoveCDROM: true, ShowIndividualProgress: true, Format: job.FormatQcow2,
				Snapshot: true, Virtio: true, Compress: true, Verify: "full", Retries: 2, Transport: job.TransportAuto, Limit: "200MB/s",
			},
		}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decode(test.text, test.contentType)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

const everything = `
id: i
name: n
vm_path: a
output_path: /o
vcenter: v
vcenter_url: https://u
username: u
password: p
insecure: true
thumbprint: t
priority: -5
options: {parallel_downloads: 1, remove_cdrom: true, show_individual_progress: true, format: qcow2,
  snapshot: true, virtio: true, compress: true, verify: full, retries: 2, transport: auto, limit: 200MB/s}
`

func TestWhatAJobFileMustNotHoldIsNamedWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, contentType, want string }{
		"an unknown key":               {"vm_path: a\noutput: /o\n", yamlType, `line 2: unknown key "output"`},
		"an unknown key in JSON":       {"{\"vm_path\": \"a\",\n\n\"output\": \"/o\"}", jsonType, `line 3: unknown key "output"`},
		"a key in another spelling":    {"vmPath: a\n", yamlType, `line 1: unknown key "vmPath"; it is written "vm_path"`},
		"an unknown option":            {"jobs:\n- vm_path: a\n- options:\n    parallel: 4\n", yamlType, `line 4: jobs[1].options: unknown key "parallel"`},
		"an unknown key of a batch":    {"jobs:\n- vm_path: a\nparallel: 4\n", yamlType, `line 3: unknown key "parallel"`},
		"a merge key":                  {"- &a {vm_path: a}\n- <<: *a\n", yamlType, `line 2: [1]: unknown key "<<"; merge keys are not read`},
		"a key given twice":            {"vm_path: a\nvm_path: b\n", yamlType, `line 2: key "vm_path" was given in line 1 already`},
		"a key given twice in JSON":    {"{\"vm_path\":\"a\",\n\"vm_path\":\"b\"}", jsonType, `line 2: key "vm_path" was given in line 1 already`},
		"text for a number":            {"options:\n  parallel_downloads: many\n", yamlType, "line 2: options.parallel_downloads: want a whole number"},
		"a fraction for a number":      {`{"options":{"retries":1.5}}`, jsonType, "line 1: options.retries: want a whole number"},
		"a number out of any range":    {`{"priority":99999999999999999999}`, jsonType, "priority: want a whole number"},
		"text for a truth":             {`{"insecure":"true"}`, jsonType, "line 1: insecure: want true or false"},
		"a number for text in JSON":    {`{"name":7}`, jsonType, "line 1: name: want text"},
		"a list for text":              {"name: [a]\n", yamlType, "line 1: name: want text"},
		"text for options":             {"options: fast\n", yamlType, "line 1: options: want keys and values"},
		"text for a job":               {"- a\n", yamlType, "line 1: [0]: want keys and values"},
		"text for a file":              {"a\n", yamlType, "line 1: want a job, a list of jobs"},
		"a mapping for the jobs":       {"jobs: {vm_path: a}\n", yamlType, "line 1: jobs: want a list of jobs"},
		"null for the jobs":            {"jobs:\n", yamlType, "jobs"},
		"no jobs":                      {`{"jobs":[]}`, jsonType, "jobs: the list of jobs is empty"},
		"nothing":                      {"", jsonType, "the job file is empty"},
		"nothing in YAML":              {"# only a comment\n", yamlType, "the job file is empty"},
		"two documents":                {"vm_path: a\n---\nvm_path: b\n", yamlType, "line 2: a second document"},
		"two JSON values":              {"{\"vm_path\":\"a\"}\n{}", jsonType, "line 2: more text after the end"},
		"broken JSON":                  {"{\"vm_path\":\n  oops}", jsonType, "line 2: not valid JSON"},
		"broken JSON of unknown type":  {"{\"vm_path\":\n  \"a\"", "", "line 2: not valid JSON"},
		"broken YAML":                  {"vm_path: a\n  b: [\n", yamlType, "line 2: not valid YAML"},
		"NUL in JSON":                  {`{"vm_path":"a\u0000b"}`, jsonType, "vm_path: must not hold a NUL byte"},
		"NUL in YAML":                  {`vm_path: "a\0b"`, yamlType, "vm_path: must not hold a NUL byte"},
		"a raw NUL":                    {"vm_path: a\x00b\n", yamlType, "not valid YAML"},
		"bytes that are no text":       {"vm_path: \xff\n", yamlType, "not UTF-8"},
		"an alias to itself":           {"jobs: &a [*a]\n", yamlType, "jobs[0]: want keys and values"},
		"an alias to nothing":          {"vm_path: *nothing\n", yamlType, "an alias (*…) to nothing"},
		"a bomb of aliases":            {bomb(), yamlType, `unknown key "a"`},
		"deep nesting in JSON":         {strings.Repeat("[", 100_000), jsonType, "nested too deeply"},
		"deep nesting in YAML":         {strings.Repeat("[", 100_000), yamlType, "not valid YAML"},
		"deep nesting of a known form": {strings.Repeat("[", 40) + strings.Repeat("]", 40), yamlType, "[0]: want keys and values"},
		"a time that is none":          {"created_at: yesterday\n", yamlType, "created_at: want a time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := decode(test.text, test.contentType)
			if err == nil {
				t.Fatalf("it was read: %+v", b)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %q, want %q", err, test.want)
			}
			var d *jobfile.DecodeError
			if !errors.As(err, &d) {
				t.Errorf("error is %T, want a DecodeError", err)
			}
		})
	}
}

// bomb is a few lines that would be 10^9 values if aliases were copied.
func bomb() string {
	text := "a: &l0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		text += fmt.Sprintf("b%d: &l%d [%s]\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d,", i), 10), ","))
	}
	return text
}

func TestSeveralProblemsAreToldAtOnceButNotEndlessly(t *testing.T) {
	t.Parallel()
	_, err := decode(strings.Repeat("- {vm: a, insecure: 7}\n", 500), yamlType)
	if err == nil {
		t.Fatal("it was read")
	}
	if n := len(strings.Split(err.Error(), "\n")); n != 10 {
		t.Errorf("%d problems told, want 10:\n%v", n, err)
	}
}

func TestNoErrorQuotesAValue(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, text := range []string{
		"password: [hunter2]\n",
		"password: *hunter2\n",
		"password: 'hunter2\n",
		"password: \"hunter2\\q\"\n",
		"password: !hunter2,x hunter2\n",
		"password: !<hunter2 x\n",
		"password: {hunter2: x, }}\n",
		"password: @hunter2\n",
		"password: %hunter2\n",
		"password: `hunter2`\n",
		"%TAG hunter2\n---\npassword: x\n",
		"priority: hunter2\n",
		"insecure: hunter2\n",
		"created_at: hunter2\n",
		"options: hunter2\n",
		"jobs: hunter2\n",
		"hunter2\n",
		`{"password": "hunter2" oops}`,
		`{"password": hunter2}`,
		`{"priority": "hunter2"}`,
		`{"options": "hunter2"}`,
		`["hunter2"]`,
		`"hunter2"`,
	} {
		for _, contentType := range []string{"", jsonType, yamlType} {
			if _, err := decode(text, contentType); err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error for %q as %q quotes the value: %v", text, contentType, err)
			}
		}
	}
}

func TestAJobFileThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"in bytes": "vm_path: " + strings.Repeat("a", jobfile.MaxSize),
		"in jobs":  "[" + strings.TrimSuffix(strings.Repeat("{},", jobfile.MaxJobs+1), ",") + "]",
	} {
		if _, err := decode(text, ""); !errors.Is(err, jobfile.ErrTooLarge) {
			t.Errorf("too large %s: error %v, want ErrTooLarge", name, err)
		}
	}
	broken := errors.New("connection reset")
	if _, err := jobfile.Decode(iotest.ErrReader(broken), ""); !errors.Is(err, broken) {
		t.Errorf("error of a reader that fails = %v", err)
	}
}

// fuzz checks what must hold for any text.
func fuzz(f *testing.F, contentType string) {
	for _, seed := range []string{
		contractYAML, everything, bomb(), "jobs: &a [*a]", "- {vm_path: a}\n", `{"jobs":[{"vm_path":"\u0000"}],"atomic":true}`,
		`[{"options":{"retries":1e3}}]`, "password: *x", "? [a]\n: b\n", "!!int a: b", "a: !!binary x", "{", "", "\t", "%YAML 1.1\n---\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := jobfile.Decode(io.LimitReader(strings.NewReader(text), 1<<16), contentType)
		switch {
		case err == nil && len(b.Jobs) == 0:
			t.Error("no error and no jobs")
		case err != nil && len(b.Jobs) > 0:
			t.Error("an error and jobs")
		case err != nil && err.Error() == "":
			t.Error("an error without text")
		}
		for _, j := range b.Jobs {
			j = j.WithDefaults()
			err := j.Validate()
			if again := j.WithDefaults(); !reflect.DeepEqual(again, j) {
				t.Errorf("defaults change what they filled in: %+v, then %+v", j, again)
			}
			if err == nil && strings.Contains(j.OutputPath+j.VMPath+j.ID+j.Name, "\x00") {
				t.Errorf("a NUL byte was found valid: %+v", j)
			}
			if len(j.Password) > 7 && err != nil && strings.Contains(err.Error(), j.Password) {
				t.Errorf("the error quotes the password: %v", err)
			}
		}
	})
}

func FuzzDecodeYAML(f *testing.F) { fuzz(f, yamlType) }

func FuzzDecodeJSON(f *testing.F) { fuzz(f, jsonType) }

func FuzzDecodeAny(f *testing.F) { fuzz(f, "") }
