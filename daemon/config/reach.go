package config

import (
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/daemon/reach"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Reach is what jobs may touch. A key that is absent, and so a nil list, is not the
// same as an empty list, which allows nothing: see package reach.
type Reach struct {
	OutputRoots []string `yaml:"allowed_output_roots"` // absolute directories
	VCenters    []string `yaml:"allowed_vcenters"`     // see reach.ParsePattern
	Libvirt     []string `yaml:"allowed_libvirt"`      // URIs; none is allowed that is not listed
}

func (r Reach) validate(bad func(key, format string, args ...any)) {
	for _, dir := range r.OutputRoots {
		switch {
		case !filepath.IsAbs(dir):
			bad("allowed_output_roots", "must be absolute paths")
		case filepath.Clean(dir) == "/":
			bad("allowed_output_roots", "must not be the root directory: name the directories for images")
		}
	}
	for _, uri := range r.Libvirt {
		if err := job.CheckLibvirt(uri); err != nil {
			bad("allowed_libvirt", "one of them %v: give %s", err, job.LibvirtURIs)
		}
	}
	for _, v := range r.VCenters {
		if _, err := reach.ParsePattern(v); err != nil {
			bad("allowed_vcenters", "one of them %v", err)
		}
	}
}

// Patterns are the allowed vCenters of a configuration that was validated; nil when
// it does not say.
func (r Reach) Patterns() []reach.Pattern {
	if r.VCenters == nil {
		return nil
	}
	out := make([]reach.Pattern, 0, len(r.VCenters))
	for _, v := range r.VCenters {
		if p, err := reach.ParsePattern(v); err == nil {
			out = append(out, p)
		}
	}
	return out
}
