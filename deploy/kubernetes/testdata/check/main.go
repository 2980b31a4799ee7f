// Command check decodes manifests as the API of Kubernetes does, strictly: an unknown or
// repeated key, and a value of another type, is an error. It prints the objects as JSON
// lines. It is a module of its own, so that the programs do not depend on Kubernetes.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

// object returns what an object of that kind is decoded into.
func object(kind string) any {
	switch kind {
	case "apps/v1 Deployment":
		return new(apps.Deployment)
	case "policy/v1 PodDisruptionBudget":
		return new(policy.PodDisruptionBudget)
	case "v1 Namespace":
		return new(core.Namespace)
	case "v1 Secret":
		return new(core.Secret)
	case "v1 ConfigMap":
		return new(core.ConfigMap)
	case "v1 Service":
		return new(core.Service)
	case "v1 PersistentVolumeClaim":
		return new(core.PersistentVolumeClaim)
	}
	return nil
}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i, document := range bytes.Split(text, []byte("\n---\n")) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(document, &head); err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
		kind := head.APIVersion + " " + head.Kind
		o := object(kind)
		if o == nil {
			return fmt.Errorf("document %d: %q is not known", i+1, kind)
		}
		if err := yaml.UnmarshalStrict(document, o); err != nil {
			return fmt.Errorf("document %d, %s: %w", i+1, kind, err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
			return err
		}
	}
	return nil
}
