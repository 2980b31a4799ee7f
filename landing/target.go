package landing

import (
	"cmp"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Target is where to land, and what is to be there.
type Target struct {
	URI         string // of libvirt: see [job.CheckLibvirt]
	Pool        string // storage pool for the images; "" leaves them where they are
	Define      bool   // the domain
	Start       bool   // the domain, which is defined then
	OnCollision job.OnCollision
}

// String is the target in a form that can be compared and read.
func (t Target) String() string {
	text := t.URI
	if t.Pool != "" {
		text += " pool=" + t.Pool
	}
	if t.Defines() {
		text += " define"
	}
	if t.Start {
		text += " start"
	}
	return text + " on-collision=" + string(cmp.Or(t.OnCollision, job.CollisionRefuse))
}

// Defines reports whether a domain is defined.
func (t Target) Defines() bool { return t.Define || t.Start }

// endpoint is a driver of libvirt, and the socket at which it is asked for.
type endpoint struct {
	driver string // its URI without the way to it
	socket string // absolute path
}

// parseURI reads a URI that job.CheckLibvirt takes.
func parseURI(uri string) (endpoint, error) {
	if err := job.CheckLibvirt(uri); err != nil {
		return endpoint{}, fault.Permanent(fault.WithHint(fmt.Errorf("libvirt's URI %w", err), "give "+job.LibvirtURIs))
	}
	u, err := url.Parse(uri)
	if err != nil {
		return endpoint{}, err
	}
	socket := u.Query().Get("socket")
	switch {
	case socket != "":
	case u.Path == "/session":
		socket = sessionSocket()
	default:
		socket = systemSocket
	}
	driver, _, _ := strings.Cut(u.Scheme, "+")
	return endpoint{driver: driver + "://" + u.Path, socket: socket}, nil
}

// systemSocket is that of libvirtd, and of virtqemud's proxy.
const systemSocket = "/run/libvirt/libvirt-sock"

// sessionSocket is that of the user's own libvirtd, which has to run.
func sessionSocket() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	return filepath.Join(dir, "libvirt", "libvirt-sock")
}
