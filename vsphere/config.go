package vsphere

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	govc "github.com/vmware/govmomi/session"
)

// ConfigFromEnv reads the GOVC_* variables as govc does: GOVC_URL (which may
// hold user info and may lack scheme and path), GOVC_USERNAME and
// GOVC_PASSWORD (which override it, and may name a file that holds the
// value), GOVC_INSECURE, GOVC_DATACENTER, GOVC_TLS_CA_CERTS and
// GOVC_TLS_KNOWN_HOSTS. getenv is os.Getenv or a stand-in.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	raw := getenv("GOVC_URL")
	if raw == "" {
		return Config{}, errors.New("GOVC_URL is not set: set it to the vCenter, as in GOVC_URL=vcenter.example.com")
	}
	u, err := ParseURL(raw)
	if err != nil {
		return Config{}, fmt.Errorf("GOVC_URL: %w", err)
	}
	cfg := Config{
		URL:        u,
		Datacenter: getenv("GOVC_DATACENTER"),
		CAFile:     getenv("GOVC_TLS_CA_CERTS"),
		KnownHosts: getenv("GOVC_TLS_KNOWN_HOSTS"),
	}
	switch strings.ToLower(getenv("GOVC_INSECURE")) {
	case "1", "true":
		cfg.Insecure = true
	}
	if cfg.Username, err = govc.Secret(getenv("GOVC_USERNAME")); err != nil {
		return Config{}, errors.New("GOVC_USERNAME names a file that cannot be read")
	}
	if cfg.Password, err = govc.Secret(getenv("GOVC_PASSWORD")); err != nil {
		return Config{}, errors.New("GOVC_PASSWORD names a file that cannot be read")
	}
	return cfg.normalized()
}

var hasScheme = regexp.MustCompile(`^\w+://`)

// ParseURL reads the address of a vCenter or ESXi host: a missing scheme is
// https, a missing path is /sdk. Its errors do not repeat s, which may hold a
// password.
func ParseURL(s string) (*url.URL, error) {
	if !hasScheme.MatchString(s) {
		s = "https://" + s
	}
	u, err := url.Parse(strings.TrimRight(s, "/"))
	switch {
	case err != nil:
		return nil, errors.New("not a URL: write it as https://vcenter.example.com/sdk, with special characters of user and password percent-encoded")
	case u.Hostname() == "":
		return nil, errors.New("no host in it: write it as https://vcenter.example.com/sdk")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("scheme %q is neither https nor http", u.Scheme)
	}
	if u.Path == "" {
		u.Path = "/sdk"
	}
	return u, nil
}

// normalized returns c with the user info of URL moved into Username and
// Password, and defaults filled in. c's URL is not changed.
func (c Config) normalized() (Config, error) {
	if c.URL == nil || c.URL.Host == "" {
		return Config{}, errors.New("no vCenter address is given: set GOVC_URL")
	}
	u := *c.URL
	if u.Scheme == "" {
		u.Scheme = "https"
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/sdk"
	}
	if u.User != nil {
		if c.Username == "" {
			c.Username = u.User.Username()
		}
		if p, ok := u.User.Password(); ok && c.Password == "" {
			c.Password = p
		}
		u.User = nil
	}
	c.URL = &u
	if c.Thumbprint != "" {
		if _, err := parseThumbprint(c.Thumbprint); err != nil {
			return Config{}, fmt.Errorf("thumbprint: %w", err)
		}
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 10 * time.Minute
	}
	c.Timeouts = c.Timeouts.withDefaults()
	if c.Outage == 0 {
		c.Outage = DefaultOutage
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// String describes c without its secrets.
func (c Config) String() string {
	host := ""
	if c.URL != nil {
		host = c.URL.Host
	}
	user := c.Username
	if user == "" && c.URL != nil && c.URL.User != nil {
		user = c.URL.User.Username()
	}
	return fmt.Sprintf("vsphere.Config{host %s, user %s}", host, user)
}

// GoString is String: %#v shows no secret either.
func (c Config) GoString() string { return c.String() }

// LogValue is String: a log shows no secret either.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }
