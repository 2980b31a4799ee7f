package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/reach"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// imagesDir is the directory for images in the state directory.
const imagesDir = "vms"

// policy is what jobs may touch, and tells of it. Others can ask than the users of this
// machine where the daemon is exposed, and once there is access control, which is asked
// again for each job: the first token may be made at any time.
func (s settings) policy(ctx context.Context, v vcenters, who *access.Authenticator, exposed bool, log *slog.Logger) (*reach.Policy, error) {
	known, err := who.Configured(ctx)
	if err != nil {
		return nil, err
	}
	var last atomic.Bool // what was known when the store could be asked
	last.Store(known)
	shared := func() bool {
		if configured, err := who.Configured(context.WithoutCancel(ctx)); err == nil {
			last.Store(configured)
		}
		return exposed || last.Load()
	}
	p := &reach.Policy{
		OutputRoots: s.config.OutputRoots,
		StateRoot:   filepath.Join(filepath.Dir(s.db), imagesDir),
		VCenters:    s.config.Patterns(),
		Libvirt:     s.config.Libvirt,
		Shared:      shared,
	}
	for _, name := range s.config.Names() {
		if u, err := vsphere.ParseURL(s.config.VCenters[name].URL); err == nil {
			p.Known = append(p.Known, u)
		}
	}
	if u, err := vsphere.ParseURL(v.getenv("GOVC_URL")); err == nil {
		p.Known = append(p.Known, u)
	}
	if err := os.MkdirAll(p.StateRoot, 0o750); err != nil {
		return nil, fmt.Errorf("directory for images: %w", err)
	}
	for _, dir := range p.OutputRoots {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			log.Warn("an allowed output root is not there: jobs that write to it fail", "directory", dir)
		}
	}
	if p.OutputRoots == nil && !shared() && os.Geteuid() == 0 {
		log.Warn("the daemon runs as root, and no allowed_output_roots are configured: a job may write wherever root may, but in the system's directories and hidden ones")
	}
	return p, nil
}
