package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// checkTimeout is how long the commands for passwords may take at the start, all
// together.
const checkTimeout = 20 * time.Second

var errSlowPassword = fmt.Errorf("the commands for passwords have taken %v", checkTimeout)

// check looks at the start for what jobs would stumble over later. The error is
// for what is wrong whatever happens; warnings are for what may yet come right,
// or does not matter to jobs that bring a vCenter of their own.
func (v vcenters) check(ctx context.Context) (warnings []string, err error) {
	var errs []error
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errSlowPassword)
	defer cancel()
	for _, name := range v.config.Names() {
		c := v.config.VCenters[name]
		if _, err := vsphere.ParseURL(c.URL); err != nil {
			errs = append(errs, fmt.Errorf("vcenters.%s.url: %w", name, err))
		}
		if c.Thumbprint != "" && !job.ValidThumbprint(c.Thumbprint) {
			errs = append(errs, fmt.Errorf("vcenters.%s.thumbprint: must be a SHA-1 or SHA-256 in hexadecimal digits, with or without colons", name))
		}
		if _, err := v.password(ctx, c); err != nil {
			warnings = append(warnings, fmt.Sprintf("vCenter %s cannot be used until this is mended: %v", name, err))
		}
		if err := checkCAs(c.CAFile); err != nil {
			warnings = append(warnings, fmt.Sprintf("vCenter %s cannot be used until this is mended: ca_file: %v", name, err))
		}
	}
	switch {
	case v.config.DefaultVCenter() != "":
	case v.getenv("GOVC_URL") != "":
		cfg, err := vsphere.ConfigFromEnv(v.getenv)
		if err != nil {
			errs = append(errs, err)
		} else if cfg.Username == "" || cfg.Password == "" {
			warnings = append(warnings, "GOVC_URL is set without GOVC_USERNAME and GOVC_PASSWORD: only jobs that bring username and password can use it")
		}
	case len(v.config.VCenters) == 0:
		warnings = append(warnings, "no vCenter is configured, in the configuration file or by GOVC_URL: only jobs that bring vcenter_url, username and password can run")
	}
	return warnings, errors.Join(errs...)
}

// checkCAs reads files of certificates, separated as in PATH.
func checkCAs(list string) error {
	for _, path := range filepath.SplitList(list) {
		pem, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate in PEM", path)
		}
	}
	return nil
}
