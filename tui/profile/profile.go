// Package profile remembers the vCenters that a person has connected to: address,
// user, and the thumbprint of a certificate that the person has accepted. It never
// holds a password.
//
// Profiles are in one YAML file that only its owner can read, written whole and
// renamed into place.
package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Profile is one vCenter or ESXi host.
type Profile struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"` // without user info
	User string `yaml:"user,omitempty"`
	// Thumbprint is the SHA-256 of the certificate that was accepted, in hex
	// with colons; "" when an authority vouches for it.
	Thumbprint string `yaml:"thumbprint,omitempty"`
	// Format is what VMs of this vCenter become unless something else is asked for;
	// "" leaves that open. A person writes it into the file.
	Format job.Format `yaml:"format,omitempty"`
}

// FormatVariable is the environment variable that names the format which VMs
// become unless something else is asked for.
const FormatVariable = "HYPER2KVM_FORMAT"

// DefaultFormat is the format to start from: that of the environment, or that of p,
// or fallback. The error says where a format stands that there is not.
func DefaultFormat(getenv func(string) string, p Profile, fallback job.Format) (job.Format, error) {
	format, where := job.Format(strings.ToLower(getenv(FormatVariable))), FormatVariable
	if format == "" {
		format, where = p.Format, fmt.Sprintf("profile %q: format", p.Name)
	}
	switch format {
	case "":
		return fallback, nil
	case job.FormatOVF, job.FormatOVA, job.FormatRaw, job.FormatQcow2:
		return format, nil
	}
	return "", fmt.Errorf("%s: must be %s, %s, %s or %s", where, job.FormatOVF, job.FormatOVA, job.FormatRaw, job.FormatQcow2)
}

// Store is the file of profiles.
type Store struct{ path string }

// file is what the file holds.
type file struct {
	Profiles []Profile `yaml:"profiles"`
}

// Open returns the store in dir; an empty dir is hyper2kvm in the user's
// configuration directory. Nothing is read or made yet.
func Open(dir string) (*Store, error) {
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("profiles: %w", err)
		}
		dir = filepath.Join(base, "hyper2kvm")
	}
	return &Store{path: filepath.Join(dir, "profiles.yaml")}, nil
}

// Path is the file's name.
func (s *Store) Path() string { return s.path }

// List returns the profiles by name. A file that does not exist holds none.
func (s *Store) List() ([]Profile, error) {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	var f file
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("profiles: %s: %w; mend or remove the file", s.path, err)
	}
	slices.SortFunc(f.Profiles, func(a, b Profile) int { return strings.Compare(a.Name, b.Name) })
	return f.Profiles, nil
}

// Find returns the profile of that name.
func (s *Store) Find(name string) (Profile, bool, error) {
	all, err := s.List()
	i := slices.IndexFunc(all, func(p Profile) bool { return p.Name == name })
	if err != nil || i < 0 {
		return Profile{}, false, err
	}
	return all[i], true, nil
}

// Named returns the profile of that name; that there is none is an error.
func (s *Store) Named(name string) (Profile, error) {
	p, ok, err := s.Find(name)
	if err == nil && !ok {
		err = fmt.Errorf("no profile %q in %s", name, s.path)
	}
	return p, err
}

// Config is how one connects to the profile's vCenter; the password is not in it.
func (p Profile) Config() (vsphere.Config, error) {
	u, err := vsphere.ParseURL(p.URL)
	if err != nil {
		return vsphere.Config{}, fmt.Errorf("profile %q: %w", p.Name, err)
	}
	return vsphere.Config{URL: u, Username: p.User, Thumbprint: p.Thumbprint}, nil
}

// ForHost returns the profile whose URL has that host and port.
func (s *Store) ForHost(host string) (Profile, bool, error) {
	all, err := s.List()
	i := slices.IndexFunc(all, func(p Profile) bool { return strings.EqualFold(hostOf(p.URL), host) })
	if err != nil || i < 0 {
		return Profile{}, false, err
	}
	return all[i], true, nil
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// Save adds p, or replaces the profile of the same name. User info is taken out
// of its URL.
func (s *Store) Save(p Profile) error {
	u, err := url.Parse(p.URL)
	if err != nil || u.Host == "" {
		return errors.New("profiles: the URL of the profile has no host")
	}
	u.User = nil
	p.URL = u.String()
	all, err := s.List()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(old Profile) bool { return old.Name == p.Name })
	b, err := yaml.Marshal(file{Profiles: append(all, p)})
	if err != nil {
		return fmt.Errorf("profiles: %w", err)
	}
	return s.write(b)
}

func (s *Store) write(b []byte) error {
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("profiles: %w", err)
	}
	if err := atomicfile.Write(s.path, b, 0o600); err != nil {
		return fmt.Errorf("profiles: %w", err)
	}
	return nil
}
