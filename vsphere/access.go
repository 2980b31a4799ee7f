package vsphere

import (
	"context"
	"crypto/sha1" // VDDK names certificates by it
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// Access is what another program has to be told so that it reads a frozen disk itself.
// It holds the password, which none of its texts show.
type Access struct {
	Server, Port   string // of vCenter or of the host; the port is never empty
	User, Password string
	Thumbprint     string // SHA-1 of the certificate that was trusted, in upper-case hex with colons
	VM             string // managed object reference, as vm-16
	Snapshot       string // the same, as snapshot-17; "" for a VM that is off
	File           string // as "[datastore] folder/name.vmdk"; of a snapshot the file that it has frozen
	State          string // names the state of the disk, in the form of an entity tag
}

// String names the disk.
func (a Access) String() string { return fmt.Sprintf("%s of %s at %s", a.File, a.VM, a.Server) }

// GoString names the disk.
func (a Access) GoString() string { return a.String() }

// LogValue names the disk.
func (a Access) LogValue() slog.Value { return slog.StringValue(a.String()) }

// FrozenAccess says how another program reads the disk d of t. What cannot be read as
// far as is known is an [ErrUnsupported]: see [Client.Frozen].
func (c *Client) FrozenAccess(ctx context.Context, t Target, d Disk) (Access, error) {
	d, err := c.frozenDisk(ctx, t, d)
	if err != nil {
		return Access{}, err
	}
	cert := c.trust.shown(c.addr())
	if cert == nil {
		return Access{}, &Error{Op: "read by another program", On: t.VM.Path, Kind: ErrUnsupported, Err: errors.New("the connection to vSphere is not encrypted")}
	}
	sum := sha1.Sum(cert.Raw) // as above
	port := c.cfg.URL.Port()
	if port == "" {
		port = "443"
	}
	return Access{
		Server: c.cfg.URL.Hostname(), Port: port, User: c.cfg.Username, Password: c.cfg.Password, Thumbprint: colonHex(sum[:]),
		VM: t.VM.Ref, Snapshot: t.Snapshot.Ref, File: datastorePath(d), State: stateOf(t, d),
	}, nil
}

// datastorePath is a disk's file as vSphere writes it.
func datastorePath(d Disk) string { return "[" + d.Datastore + "] " + d.File }

// frozenDisk returns d as it is in t: for a snapshot with the file that it has frozen.
func (c *Client) frozenDisk(ctx context.Context, t Target, d Disk) (Disk, error) {
	if err := c.Frozen(t, d); err != nil || t.Snapshot.Ref == "" {
		return d, err
	}
	frozen, err := c.SnapshotDisks(ctx, t.Snapshot)
	if err != nil {
		return d, err
	}
	i := slices.IndexFunc(frozen, func(f Disk) bool { return f.Key == d.Key })
	if i < 0 || frozen[i].Capacity != d.Capacity {
		return d, &Error{Op: "read at random", On: t.VM.Path, Kind: ErrUnsupported, Err: fmt.Errorf("the snapshot does not have %s as it is", d.Label)}
	}
	return frozen[i], nil
}

// show notes the certificate that was trusted at addr.
func (t *trust) show(addr string, cert *x509.Certificate) { t.last.Store(addr, cert) }

// shown is the last certificate that was trusted at addr; nil when there was none.
func (t *trust) shown(addr string) *x509.Certificate {
	cert, _ := t.last.Load(addr)
	c, _ := cert.(*x509.Certificate)
	return c
}
