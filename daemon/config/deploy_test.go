package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
)

func TestTheExamplesForSeveralDaemonsAreValid(t *testing.T) {
	t.Parallel()
	texts := make(map[string][]byte)
	compose, err := os.ReadFile("../../deploy/compose/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts["compose"] = compose
	sites, err := filepath.Glob("../../deploy/kubernetes/site-*.yaml")
	if err != nil || len(sites) != 2 {
		t.Fatalf("%d sites, %v", len(sites), err)
	}
	for _, path := range sites {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var m struct{ Data map[string]string }
		if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&m); err != nil { // the first document
			t.Fatal(err)
		}
		texts[path] = []byte(m.Data["config.yaml"])
	}
	for name, text := range texts {
		c, err := config.Decode(bytes.NewReader(text), name)
		if err != nil {
			t.Errorf("%v", err)
		}
		if c.Labels["site"] == "" || c.Store.URL == "" || len(c.VCenters) != 1 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
