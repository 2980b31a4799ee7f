package api_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

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
	const golden = "testdata/openapi.yaml"
	if *update {
		if err := os.WriteFile(golden, []byte(a.body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), a.body); d != "" {
		t.Errorf("run go test ./daemon/api -update and look at the change; -want +got:\n%s", d)
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
