package api_test

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestTheOpenAPIDescriptionIsTheGoldenOne(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	a := d.get("/openapi.yaml")
	if a.status != 200 {
		t.Fatalf("HTTP %d %s", a.status, a.body)
	}
	const file = "testdata/openapi.yaml"
	if *update {
		if err := os.WriteFile(file, []byte(a.body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), a.body); d != "" {
		t.Errorf("run go test ./daemon/api -update and look at the change; -want +got:\n%s", d)
	}
}

// description is what the golden description says, as far as these tests look.
type description struct {
	Info struct {
		Contact, License map[string]string
	}
	Servers []struct{ URL string }
	Tags    []struct{ Name, Description string }
	Paths   map[string]map[string]struct {
		OperationID string `yaml:"operationId"`
		Summary     string
		Description string
		Tags        []string
		Security    *[]map[string][]string
		Responses   map[string]struct {
			Ref         string `yaml:"$ref"`
			Description string
		}
	}
	Components struct {
		Responses       map[string]any
		SecuritySchemes map[string]any `yaml:"securitySchemes"`
	}
}

var golden = sync.OnceValue(func() (d description) {
	text, err := os.ReadFile("testdata/openapi.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &d)
	}
	if err != nil {
		panic(err)
	}
	return d
})

// described says whether the description knows that a request may be answered with
// this status. What is no route of it is not its business.
func described(method, path string, status int) bool {
	for pattern, ops := range golden().Paths {
		op, ok := ops[strings.ToLower(method)]
		if !ok || !fits(pattern, path) {
			continue
		}
		if _, ok := op.Responses[strconv.Itoa(status)]; ok {
			return true
		}
		literal := !strings.Contains(pattern, "{")
		if literal || golden().Paths[path] == nil {
			return false
		}
	}
	return true
}

// fits says whether a path is one of the pattern.
func fits(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}

// What spectral and redocly want in their recommended sets, where this API is
// concerned; make openapi asks them themselves.
func TestEveryOperationIsDescribedInFull(t *testing.T) {
	t.Parallel()
	d := golden()
	if d.Info.Contact["name"] == "" || d.Info.License["url"] == "" || len(d.Servers) == 0 || d.Servers[0].URL != "/" {
		t.Errorf("info %v, servers %v", d.Info, d.Servers)
	}
	tags := map[string]bool{}
	for _, tag := range d.Tags {
		tags[tag.Name] = tag.Description != ""
	}
	used := map[string]bool{}
	for path, ops := range d.Paths {
		for method, op := range ops {
			name := strings.ToUpper(method) + " " + path
			if op.OperationID == "" || op.Summary == "" || len(op.Description) < 20 {
				t.Errorf("%s has the id %q, the summary %q and the description %q", name, op.OperationID, op.Summary, op.Description)
			}
			if len(op.Tags) != 1 || !tags[op.Tags[0]] {
				t.Errorf("%s has the tags %v", name, op.Tags)
			}
			open := needs[name] == access.Nobody
			if op.Security == nil || (len(*op.Security) == 0) != open {
				t.Errorf("%s has the security %v", name, op.Security)
			}
			if !open && !strings.Contains(op.Description, "Needs the role "+needs[name].String()+".") {
				t.Errorf("%s does not say which role it needs: %s", name, op.Description)
			}
			for status, r := range op.Responses {
				component := strings.TrimPrefix(r.Ref, "#/components/responses/")
				used[component] = true
				if r.Description == "" && d.Components.Responses[component] == nil {
					t.Errorf("%s: nothing is said of the answer %s", name, status)
				}
			}
			if !slices.ContainsFunc(slices.Collect(maps.Keys(op.Responses)), func(s string) bool { return s[0] == '4' }) {
				t.Errorf("%s never fails by its caller's fault", name)
			}
		}
	}
	for name := range d.Components.Responses {
		if !used[name] {
			t.Errorf("no operation has the response %s", name)
		}
	}
	if len(d.Components.SecuritySchemes) != 2 {
		t.Errorf("security schemes %v", d.Components.SecuritySchemes)
	}
}

func TestTheOpenAPIDescriptionCoversEveryEndpoint(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	var spec struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			RequestBody struct{ Content map[string]any } `yaml:"requestBody"`
			Responses   map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	if err := yaml.Unmarshal([]byte(d.get("/openapi.yaml").body), &spec); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(spec.OpenAPI, "3.1") {
		t.Errorf("version %s", spec.OpenAPI)
	}
	n := 0
	for _, e := range api.Endpoints() {
		if strings.HasPrefix(e.Path, "/openapi") {
			continue
		}
		n++
		op, ok := spec.Paths[e.Path][strings.ToLower(e.Method)]
		if !ok {
			t.Errorf("%s %s is not described", e.Method, e.Path)
		}
		if op.Responses["default"] == nil {
			t.Errorf("%s %s describes no error", e.Method, e.Path)
		}
	}
	described := 0
	for _, ops := range spec.Paths {
		described += len(ops)
	}
	if described != n {
		t.Errorf("%d operations are described, %d are listed for people", described, n)
	}
	content := spec.Paths["/jobs/submit"]["post"].RequestBody.Content
	for _, ct := range []string{"application/json", "application/x-yaml", "application/yaml", "text/yaml"} {
		if content[ct] == nil {
			t.Errorf("submit is not described for %s", ct)
		}
	}
	if len(content) != 4 {
		t.Errorf("submit is described for %d media types", len(content))
	}
	for _, s := range []string{"ErrorModel", "ErrorDetail"} {
		if spec.Components.Schemas[s] != nil {
			t.Errorf("%s is described and never sent", s)
		}
	}
	if a := d.get("/openapi.json"); a.status != 200 || !strings.HasPrefix(a.body, "{") {
		t.Errorf("JSON: HTTP %d", a.status)
	}
}
