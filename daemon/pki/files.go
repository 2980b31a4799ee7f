package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
)

// Dir is a directory with an authority and what it has signed: ca.crt, ca.key,
// server.crt, server.key, and <client>.crt and .key.
type Dir struct {
	Path string
	// Owner is given the keys of servers and clients, so that a daemon that is not
	// root can read them; nil leaves them to the user of this process. The
	// authority's key stays with that user.
	Owner *Owner
	Now   time.Time
}

// Owner is a user and group of the system.
type Owner struct{ UID, GID int }

// File is the path of a file of the directory.
func (d Dir) File(name string) string { return filepath.Join(d.Path, name) }

// Init makes the directory, an authority unless there is one, and a certificate
// for a server with these names and addresses. It replaces nothing: a server's
// certificate that is there is an error that satisfies errors.Is(err, fs.ErrExist).
// made says whether the authority is new.
func (d Dir) Init(name string, hosts []string) (made bool, err error) {
	for _, f := range []string{"server.crt", "server.key"} {
		if _, err := os.Lstat(d.File(f)); err == nil {
			return false, &fs.PathError{Op: "make", Path: d.File(f), Err: fs.ErrExist}
		}
	}
	for _, h := range hosts {
		if err := CheckHost(h); err != nil {
			return false, err
		}
	}
	if err := os.MkdirAll(d.Path, 0o755); err != nil { // keys have modes of their own
		return false, err
	}
	a, err := d.authority()
	if errors.Is(err, fs.ErrNotExist) && !d.has("ca.crt") && !d.has("ca.key") {
		made = true
		if a, err = NewAuthority(name, d.Now); err == nil {
			err = d.add("ca", a.Pair(), nil)
		}
	}
	if err != nil {
		return false, err
	}
	p, err := a.Server(hosts, d.Now)
	if err != nil {
		return made, err
	}
	return made, d.add("server", p, d.Owner)
}

// Renew makes a new certificate and key for the server, with the names of the one
// that is there, or with hosts unless that is empty, and replaces it. Between the
// two renames the files do not fit together.
func (d Dir) Renew(hosts []string) error {
	old, err := d.Certificate("server.crt")
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		hosts = slices.Clone(old.DNSNames)
		for _, ip := range old.IPAddresses {
			hosts = append(hosts, ip.String())
		}
	}
	a, err := d.authority()
	if err != nil {
		return err
	}
	p, err := a.Server(hosts, d.Now)
	if err != nil {
		return err
	}
	return d.write("server", p, d.Owner, (*os.Root).Rename)
}

// Client makes a certificate and key for a client of this name. It replaces
// nothing.
func (d Dir) Client(name string) error {
	if name == "ca" || name == "server" {
		return fmt.Errorf("%q is taken: choose another name for the client", name)
	}
	a, err := d.authority()
	if err != nil {
		return err
	}
	p, err := a.Client(name, d.Now)
	if err != nil {
		return err
	}
	return d.add(name, p, nil)
}

// authority reads the authority.
func (d Dir) authority() (*Authority, error) {
	cert, err := os.ReadFile(d.File("ca.crt"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(d.File("ca.key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: nothing can be signed without the authority's key; put it back for as long as this takes", err)
	}
	if err != nil {
		return nil, err
	}
	a, err := ReadAuthority(Pair{Cert: cert, Key: key})
	if err != nil {
		return nil, fmt.Errorf("authority in %s: %w", d.Path, err)
	}
	return a, nil
}

// Certificate reads a certificate of the directory.
func (d Dir) Certificate(file string) (*x509.Certificate, error) {
	b, err := os.ReadFile(d.File(file))
	if err != nil {
		return nil, err
	}
	c, err := ReadCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.File(file), err)
	}
	return c, nil
}

func (d Dir) has(name string) bool {
	_, err := os.Lstat(d.File(name))
	return err == nil
}

// add writes a pair whose names must be free.
func (d Dir) add(name string, p Pair, to *Owner) error {
	for _, f := range []string{name + ".key", name + ".crt"} {
		if d.has(f) {
			return &fs.PathError{Op: "make", Path: d.File(f), Err: fs.ErrExist}
		}
	}
	return d.write(name, p, to, atomicfile.Rename)
}

// write writes both files under other names and renames them when both are there.
func (d Dir) write(name string, p Pair, to *Owner, rename func(dir *os.Root, from, to string) error) error {
	dir, err := os.OpenRoot(d.Path)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is written through it itself
	files := []struct {
		name string
		data []byte
		perm fs.FileMode
	}{{name + ".key", p.Key, 0o600}, {name + ".crt", p.Cert, 0o644}}
	for _, f := range files {
		tmp := f.name + ".new"
		if err := atomicfile.WriteIn(dir, tmp, f.data, f.perm); err != nil {
			return err
		}
		err := dir.Chmod(tmp, f.perm) // whatever the umask is
		if err == nil && to != nil {
			err = dir.Chown(tmp, to.UID, to.GID)
		}
		if err != nil {
			return errors.Join(err, dir.Remove(tmp))
		}
	}
	for _, f := range files {
		if err := rename(dir, f.name+".new", f.name); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(dir, ".")
}
