package packaging_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// object is what is looked at of an object of Kubernetes.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Spec     struct {
		Replicas       int
		MaxUnavailable int
		Selector       map[string]any
		Template       struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				SecurityContext struct{ RunAsNonRoot bool }
				Containers      []struct {
					SecurityContext                             struct{ ReadOnlyRootFilesystem bool }
					StartupProbe, LivenessProbe, ReadinessProbe struct {
						HTTPGet struct{ Path, Port, Scheme string }
					}
					Ports        []struct{ Name string }
					VolumeMounts []struct{ Name string }
				}
				Volumes []struct {
					Name                  string
					ConfigMap             struct{ Name string }
					Secret                struct{ SecretName string }
					PersistentVolumeClaim struct{ ClaimName string }
				}
			}
		}
	}
}

// manifests decodes those of deploy/kubernetes as the API of Kubernetes does.
func manifests(t *testing.T) map[string]object {
	t.Helper()
	program := filepath.Join(t.TempDir(), "check")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, ".")
	build.Dir = "../deploy/kubernetes/testdata/check"
	build.Env = append(build.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the check: %v\n%s", err, out)
	}
	files, err := filepath.Glob("../deploy/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d manifests, %v", len(files), err)
	}
	check := exec.CommandContext(t.Context(), program, files...)
	check.Stderr = os.Stderr
	out, err := check.Output()
	if err != nil {
		t.Fatalf("the manifests are not what Kubernetes takes: %v", err)
	}
	all := make(map[string]object)
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var o object
		if err := dec.Decode(&o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != "Namespace" && o.Metadata.Namespace != "hyper2kvm" {
			t.Errorf("%s %s is in namespace %q", o.Kind, o.Metadata.Name, o.Metadata.Namespace)
		}
		all[o.Kind+" "+o.Metadata.Name] = o
	}
	return all
}

func TestTheManifestsForKubernetesFitTogether(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	for _, site := range []string{"dc1", "dc2"} {
		d, ok := all["Deployment hyper2kvmd-"+site]
		if !ok {
			t.Fatalf("site %s has no Deployment", site)
		}
		pod := d.Spec.Template
		if !pod.Spec.SecurityContext.RunAsNonRoot || len(pod.Spec.Containers) != 1 || !pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("the containers of site %s are not confined: %+v", site, pod.Spec)
		}
		for _, c := range pod.Spec.Containers {
			for _, probe := range []struct{ Path, Port, Scheme string }{c.StartupProbe.HTTPGet, c.LivenessProbe.HTTPGet, c.ReadinessProbe.HTTPGet} {
				if probe.Path != "/health" || probe.Scheme != "HTTPS" || len(c.Ports) != 1 || probe.Port != c.Ports[0].Name {
					t.Errorf("site %s has the probe %+v", site, probe)
				}
			}
			if len(c.VolumeMounts) != len(pod.Spec.Volumes) {
				t.Errorf("site %s has %d volumes and mounts %d", site, len(pod.Spec.Volumes), len(c.VolumeMounts))
			}
		}
		for _, v := range pod.Spec.Volumes {
			for kind, name := range map[string]string{"ConfigMap": v.ConfigMap.Name, "Secret": v.Secret.SecretName, "PersistentVolumeClaim": v.PersistentVolumeClaim.ClaimName} {
				if _, ok := all[kind+" "+name]; name != "" && !ok {
					t.Errorf("site %s uses the %s %s, which is not there", site, kind, name)
				}
			}
		}
		budget := all["PodDisruptionBudget hyper2kvmd-"+site].Spec
		labels, _ := budget.Selector["matchLabels"].(map[string]any)
		for key, value := range labels {
			if pod.Metadata.Labels[key] != value {
				t.Errorf("the budget of site %s is for pods with %s=%v", site, key, value)
			}
		}
		if len(labels) != len(pod.Metadata.Labels) || budget.MaxUnavailable != 1 || d.Spec.Replicas < 2 {
			t.Errorf("site %s: %d replicas, budget %+v", site, d.Spec.Replicas, budget)
		}
		if !strings.Contains(all["ConfigMap hyper2kvm-"+site].Data["config.yaml"], "site: "+site+"\n") {
			t.Errorf("the daemons of site %s have not its label", site)
		}
	}
	for key, value := range all["Service hyper2kvmd"].Spec.Selector {
		if all["Deployment hyper2kvmd-dc1"].Spec.Template.Metadata.Labels[key] != value {
			t.Errorf("the Service is for pods with %s=%v", key, value)
		}
	}
}

func TestTheComposeFileFitsTogether(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Services map[string]struct {
			Image    string
			ReadOnly bool `yaml:"read_only"`
			Secrets  []string
			Volumes  []string
		}
		Volumes map[string]any
		Secrets map[string]struct{ File string }
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	daemons, states := 0, map[string]bool{}
	for name, s := range c.Services {
		for _, secret := range s.Secrets {
			if c.Secrets[secret].File == "" {
				t.Errorf("service %s has the secret %s, which is in no file", name, secret)
			}
		}
		shared := false
		for _, v := range s.Volumes {
			volume, rest, _ := strings.Cut(v, ":")
			if strings.HasPrefix(volume, "./") {
				if _, err := os.Stat(filepath.Join("../deploy/compose", volume)); err != nil {
					t.Errorf("service %s: %v", name, err)
				}
				continue
			}
			if _, ok := c.Volumes[volume]; !ok {
				t.Errorf("service %s has the volume %s, which is not there", name, volume)
			}
			shared = shared || volume == "vms" && rest == "/srv/vms"
			if strings.HasPrefix(volume, "state") {
				states[volume] = true
			}
		}
		if strings.HasPrefix(name, "daemon") {
			daemons++
			if !s.ReadOnly || !shared {
				t.Errorf("service %s: %+v", name, s)
			}
		}
	}
	if daemons != 3 || len(states) != 3 {
		t.Errorf("%d daemons with %d state directories", daemons, len(states))
	}
}
