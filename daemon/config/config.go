// Package config reads the daemon's configuration file: where it listens and
// keeps its state, and the vCenters that jobs may refer to by name.
//
// The file is YAML, decoded strictly: an unknown or repeated key is an error
// that names the key and its line. No error quotes a value, since any of them
// may be a secret put in the wrong place. Passwords are not in the file: it says
// where they are (package secret), and they are read when they are needed, so that
// a rotated one is picked up without a restart.
package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// DefaultPath is read when no -config is given; then it may be absent.
const DefaultPath = "/etc/hyper2kvm/config.yaml"

// DefaultAddr is where the daemon listens unless told otherwise.
const DefaultAddr = "localhost:8080"

// MaxJobs is the most jobs that may run at once.
const MaxJobs = 256

// maxSize bounds the file, in bytes.
const maxSize = 1 << 20

// Config is the whole file. The zero value is a daemon with defaults and no
// named vCenters.
type Config struct {
	Daemon Daemon `yaml:"daemon"`
	Store  Store  `yaml:"store"`
	Listen Listen `yaml:"listen"`
	Access Access `yaml:"access"`
	Reach  `yaml:",inline"`
	// Labels say where the daemon is and what it has, as site: dc1, for jobs that ask
	// for it.
	Labels    job.Labels         `yaml:"labels"`
	VCenters  map[string]VCenter `yaml:"vcenters"`
	Metrics   Metrics            `yaml:"metrics"`
	Retention Retention          `yaml:"retention"`
	Limits    Bounds             `yaml:"limits"`
	Dashboard Dashboard          `yaml:"dashboard"`
}

// Daemon is how the daemon itself runs. Flags of hyper2kvmd come before it.
type Daemon struct {
	Addr     string `yaml:"addr"`      // one of listen.addrs, as it was called before
	StateDir string `yaml:"state_dir"` // absolute; holds the database
	Jobs     Count  `yaml:"jobs"`      // run at once, 1..256
	Limit    string `yaml:"limit"`     // bandwidth of all jobs together, as 200MB/s; empty is none
	// MaxDeaths is after how many deaths of the daemon in a row that brought a
	// job no further the job fails; 0 is the default.
	MaxDeaths Count `yaml:"max_deaths"`
	// SecretKeyFile holds an age identity (AGE-SECRET-KEY-1…) that encrypts
	// the passwords in jobs; SecretKeyCredential names a systemd credential
	// that does. Without either, the daemon makes one in the state directory.
	SecretKeyFile       string `yaml:"secret_key_file"`
	SecretKeyCredential string `yaml:"secret_key_credential"`
	// KeepPasswords is how long the encrypted password of a job that failed or
	// was cancelled is kept, so that it can be tried again; nil is the default,
	// 0 is not at all.
	KeepPasswords *Duration `yaml:"keep_passwords"`
	// VDDKLibDir is VMware's library as unpacked, vmware-vix-disklib-distrib; absolute.
	// Empty is none. It is for this file alone to name: nbdkit loads it.
	VDDKLibDir string `yaml:"vddk_libdir"`
	// VirtioWin is the ISO with virtio drivers for Windows, for jobs that convert their
	// guest; absolute.
	VirtioWin string `yaml:"virtio_win"`
	// DefaultVCenter is for jobs that name none. Empty is the only one, if
	// there is one only.
	DefaultVCenter string `yaml:"default_vcenter"`
}

// VCenter is one named vCenter (or ESXi host).
type VCenter struct {
	URL                string `yaml:"url"` // https://host/sdk or only the host
	Username           string `yaml:"username"`
	PasswordFile       string `yaml:"password_file"`       // absolute
	PasswordCredential string `yaml:"password_credential"` // systemd credential name
	PasswordEnv        string `yaml:"password_env"`        // variable of the daemon's environment
	// PasswordCommand is a program, by absolute path or by its name in the daemon's
	// PATH, and its arguments; no shell.
	// It prints the password. Its answer is good for PasswordTTL, or until the
	// vCenter refuses it.
	PasswordCommand []string `yaml:"password_command"`
	PasswordTTL     Duration `yaml:"password_ttl"` // 0 is package secret's default
	Thumbprint      string   `yaml:"thumbprint"`   // SHA-1 or SHA-256 of the certificate
	CAFile          string   `yaml:"ca_file"`      // PEM, absolute
	Insecure        bool     `yaml:"insecure"`     // check no certificate at all
	Datacenter      string   `yaml:"datacenter"`   // default for relative VM paths
	Limits          Limits   `yaml:"limits"`
}

// Limits keep one vCenter's load bearable (F-NFC-19).
type Limits struct {
	Jobs         Count `yaml:"jobs"`           // run at once
	Disks        Count `yaml:"disks"`          // streams at once over all its hosts
	DisksPerHost Count `yaml:"disks_per_host"` // streams at once from one ESXi host
}

// Count is how many of something there may be. 0 means that the file does not
// say, which leaves it to the default.
type Count int

// UnmarshalYAML reads a count. One that is written as 0 is no count, and not the
// same as none: a daemon that may run no job is nothing that anybody wants.
func (c *Count) UnmarshalYAML(n *yaml.Node) error {
	var i int
	if err := n.Decode(&i); err != nil {
		return err
	}
	if i == 0 {
		i = -1 // which validate refuses
	}
	*c = Count(i)
	return nil
}

// Load reads the file at path. A missing file satisfies
// errors.Is(err, fs.ErrNotExist).
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close() // only read
	return Decode(f, path)
}

// Decode reads a configuration from r; name stands for it in errors.
func Decode(r io.Reader, name string) (Config, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	if len(b) > maxSize {
		return Config{}, fmt.Errorf("configuration %s: larger than %d bytes", name, maxSize)
	}
	var c Config
	if err := decodeYAML(b, &c); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	if err := c.validate(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	return c, nil
}

// DefaultVCenter names the vCenter for jobs that name none, or is "" when
// there is no such.
func (c Config) DefaultVCenter() string {
	if names := c.Names(); c.Daemon.DefaultVCenter == "" && len(names) == 1 {
		return names[0]
	}
	return c.Daemon.DefaultVCenter
}

// Names lists the named vCenters in order.
func (c Config) Names() []string { return slices.Sorted(maps.Keys(c.VCenters)) }

func (c Config) validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	within := func(key string, n Count, limit Count) {
		if n < 0 || n > limit {
			bad(key, "must be 1 to %d, or absent for the default", limit)
		}
	}
	absolute := func(key, path string) {
		if path != "" && !filepath.IsAbs(path) {
			bad(key, "must be an absolute path")
		}
	}
	exclusive := func(prefix, a, b, va, vb string) {
		if va != "" && vb != "" {
			bad(prefix+a, "excludes %s: give one of them", b)
		}
	}
	credential := func(key, name string) {
		if strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
			bad(key, "must be the name of a systemd credential, not a path")
		}
	}

	d := c.Daemon
	absolute("daemon.state_dir", d.StateDir)
	absolute("daemon.vddk_libdir", d.VDDKLibDir)
	absolute("daemon.virtio_win", d.VirtioWin)
	absolute("daemon.secret_key_file", d.SecretKeyFile)
	credential("daemon.secret_key_credential", d.SecretKeyCredential)
	exclusive("daemon.", "secret_key_file", "secret_key_credential", d.SecretKeyFile, d.SecretKeyCredential)
	if d.KeepPasswords != nil {
		checkSpan("daemon.keep_passwords", *d.KeepPasswords, bad)
	}
	within("daemon.jobs", d.Jobs, MaxJobs)
	within("daemon.max_deaths", d.MaxDeaths, 1000)
	if _, err := units.ParseRate(d.Limit); err != nil {
		bad("daemon.limit", "must be a rate such as 200MB/s, 25MiB/s or 1Gbit/s")
	}
	if _, ok := c.VCenters[d.DefaultVCenter]; d.DefaultVCenter != "" && !ok {
		bad("daemon.default_vcenter", "is none of vcenters")
	}
	if err := c.Labels.Check(); err != nil {
		bad("labels", "%v", err)
	}
	c.Store.validate(bad)
	c.Listen.validate(d, bad)
	c.Access.validate(bad)
	absolute("access.oidc.ca_file", c.Access.OIDC.CAFile)
	c.Metrics.validate(bad)
	c.Retention.validate(bad)
	c.Limits.validate(bad)

	for _, name := range c.Names() {
		v, p := c.VCenters[name], "vcenters."+name+"."
		if name == "" || strings.ContainsAny(name, " \t\r\n/") {
			bad("vcenters", "a name is empty or holds a space or slash")
		}
		checkURL(p+"url", v.URL, bad)
		if v.Username == "" {
			bad(p+"username", "is missing")
		}
		checkPassword(p, v, bad)
		absolute(p+"ca_file", v.CAFile)
		if v.Insecure && (v.Thumbprint != "" || v.CAFile != "") {
			bad(p+"insecure", "excludes thumbprint and ca_file, which would not be looked at")
		}
		within(p+"limits.jobs", v.Limits.Jobs, MaxJobs)
		within(p+"limits.disks", v.Limits.Disks, 512)
		within(p+"limits.disks_per_host", v.Limits.DisksPerHost, 64)
	}
	c.Reach.validate(bad)
	return errors.Join(errs...)
}

func checkURL(key, raw string, bad func(key, format string, args ...any)) {
	if raw == "" {
		bad(key, "is missing: want https://host/sdk")
		return
	}
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"), !validPort(u.Port()):
		bad(key, "is no URL of a vCenter: want https://host/sdk")
	case u.User != nil:
		bad(key, "must not hold user or password: use username and password_file")
	}
}

// validPort reports whether a URL's port, which may be left out, can be one.
func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}
