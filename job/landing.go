package job

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Landing says what becomes of the finished images at libvirt. The zero value is
// nothing.
type Landing struct {
	Libvirt     string      `json:"libvirt,omitempty" yaml:"libvirt,omitempty"`           // its URI: see CheckLibvirt
	Pool        string      `json:"pool,omitempty" yaml:"pool,omitempty"`                 // storage pool for the images; "" leaves them in output_path
	Define      bool        `json:"define,omitempty" yaml:"define,omitempty"`             // the domain
	Start       bool        `json:"start,omitempty" yaml:"start,omitempty"`               // the domain, which is defined then
	OnCollision OnCollision `json:"on_collision,omitempty" yaml:"on_collision,omitempty"` // "" is CollisionRefuse
}

// OnCollision says what becomes of a name that is taken at libvirt.
type OnCollision string

// What there is to choose from.
const (
	CollisionRefuse OnCollision = "refuse" // the job fails before it changes anything
	CollisionSuffix OnCollision = "suffix" // the name gets -2, -3, … behind it
)

// LibvirtURIs lists, for people, what CheckLibvirt takes.
const LibvirtURIs = "qemu:///system, qemu:///session, qemu+unix:///system?socket=PATH or test:///default"

// CheckLibvirt returns why images cannot be landed at the libvirt with a URI
// (https://libvirt.org/uri.html), or nil. It may be that of the QEMU driver or the
// test driver, at a socket of this machine.
func CheckLibvirt(uri string) error {
	u, err := url.Parse(uri)
	if err != nil {
		return errors.New("cannot be read as a URI")
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	q := u.Query()
	socket := q.Get("socket")
	delete(q, "socket")
	switch {
	case driver != "qemu" && driver != "test":
		return fmt.Errorf("is of libvirt's driver %.20q, which is not supported", driver)
	case u.Host != "" || u.User != nil:
		return errors.New("is the libvirt of another machine, which is not supported")
	case transport != "" && transport != "unix":
		return fmt.Errorf("has the transport %.20q, which is for other machines and not supported", transport)
	case driver == "test" && u.Path != "/default", driver == "qemu" && u.Path != "/system" && u.Path != "/session":
		return fmt.Errorf("has a path that the driver %s does not have", driver)
	case u.Fragment != "" || len(q) > 0:
		return errors.New("has parameters that are not supported: only socket is")
	case socket != "" && transport != "unix":
		return fmt.Errorf("has a socket, which goes with %s+unix", driver)
	case socket != "" && (!path.IsAbs(socket) || path.Clean(socket) != socket):
		return errors.New("has a socket whose path is not absolute and clean")
	}
	return nil
}

// Landed is what a job has brought to libvirt.
type Landed struct {
	URI      string   `json:"uri"`
	Pool     string   `json:"pool,omitempty"`   // storage pool; empty when the images stay where they are
	Images   []string `json:"images,omitempty"` // absolute paths, in the order of the domain's disks
	Domain   string   `json:"domain,omitempty"` // its name; empty when none was defined
	UUID     string   `json:"uuid,omitempty"`   // the domain's
	Started  bool     `json:"started,omitempty"`
	Answered string   `json:"answered,omitempty"` // how a started guest has answered: "agent: ADDRESS", "lease: ADDRESS", "console: LINE"
}

// landing judges what is to become of the images at libvirt.
func (v *validator) landing(o Options) {
	v.text("options.pool", o.Pool, maxName)
	switch o.OnCollision {
	case "", CollisionRefuse, CollisionSuffix:
	default:
		v.add("options.on_collision", "must be %s or %s", CollisionRefuse, CollisionSuffix)
	}
	if o.Libvirt == "" {
		if o.Pool != "" || o.Define || o.Start || o.OnCollision != "" {
			v.add("options.libvirt", "is required with pool, define, start and on_collision: %s", LibvirtURIs)
		}
		return
	}
	if len(o.Libvirt) > maxPath {
		v.add("options.libvirt", "is longer than %d bytes", maxPath)
	} else if err := CheckLibvirt(o.Libvirt); err != nil {
		v.add("options.libvirt", "%v: give %s", err, LibvirtURIs)
	}
	if o.Back {
		return // it is only asked
	}
	if o.Format != FormatRaw && o.Format != FormatQcow2 {
		v.add("options.libvirt", "needs format %s or %s: libvirt takes images, and no OVF", FormatQcow2, FormatRaw)
	}
	if o.Pool == "" && !o.Define && !o.Start {
		v.add("options.libvirt", "needs pool, define or start: there is nothing to be done otherwise")
	}
	if strings.Contains(o.Pool, "/") {
		v.add("options.pool", "must be the name of a storage pool, without slashes")
	}
}
