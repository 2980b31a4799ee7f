package convert

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/nbd"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// ErrURI: a URI does not name the export of an NBD server that can be read.
var ErrURI = errors.New("not the URI of an NBD export that can be read")

// nbdPort is where NBD servers listen.
const nbdPort = "10809"

// IsExport reports whether source names the export of an NBD server, and no file.
func IsExport(source string) bool {
	scheme, _, ok := strings.Cut(source, "://")
	return ok && strings.HasPrefix(strings.ToLower(scheme), "nbd") && !strings.Contains(scheme, "/")
}

// address is where an export is served.
type address struct {
	network, at string // of net.Dial
	export      string
}

// parseExport takes a URI apart: nbd+unix:///EXPORT?socket=PATH, or
// nbd://LOOPBACK[:PORT]/EXPORT. They are those of the NBD project's URI specification
// that need no encryption.
func parseExport(source string) (a address, err error) {
	bad := func(format string, args ...any) (address, error) {
		return a, fault.Permanent(fault.WithHint(fmt.Errorf("%w: "+format, append([]any{ErrURI}, args...)...),
			"nbd+unix:///EXPORT?socket=/PATH, or nbd://localhost:PORT/EXPORT"))
	}
	u, err := url.Parse(source)
	if err != nil {
		return bad("it cannot be taken apart")
	}
	if u.User != nil {
		return bad("it names a user, which NBD servers do not know without TLS")
	}
	a.export = strings.TrimPrefix(u.Path, "/")
	query := u.Query()
	socket := query.Get("socket")
	query.Del("socket")
	switch {
	case len(query) > 0 || u.Fragment != "":
		return bad("nothing but socket=PATH can stand behind the ?")
	case u.Scheme == "nbd+unix" && (socket == "" || u.Host != ""):
		return bad("nbd+unix has no host, and a socket: three slashes, and socket=PATH behind a ?")
	case u.Scheme == "nbd+unix":
		a.network, a.at = "unix", socket
		return a, nil
	case u.Scheme != "nbd":
		return bad("%.20q is not nbd+unix and not nbd: TLS and vsock are not spoken", u.Scheme)
	case socket != "":
		return bad("a socket is for nbd+unix")
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = nbdPort
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return bad("%.100q is another machine, and NBD without TLS is neither secret nor checked on its way: bring its port or socket here by ssh -L", host)
	}
	a.network, a.at = "tcp", net.JoinHostPort(host, port)
	return a, nil
}

// openExport connects to the NBD server that a URI names.
func openExport(ctx context.Context, uri string) (*source, error) {
	a, err := parseExport(uri)
	if err != nil {
		return nil, err
	}
	e := &export{uri: uri, r: nbd.NewReader(nbd.Options{
		Name: a.at, Export: a.export, Connections: 1,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, a.network, a.at)
		},
	})}
	info, err := e.r.Probe(ctx)
	if err == nil {
		e.areas, err = e.r.Allocated(ctx)
	}
	s := &source{name: exportName(a), export: e}
	if errors.Is(err, nbd.ErrNoAllocation) {
		s.notes = append(s.notes, "the NBD server does not tell which areas hold data: all of the disk is read")
		e.areas, err = []transfer.Area{{Length: info.Size}}, nil
	}
	if err != nil {
		e.r.Close()
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	e.size = info.Size
	s.disks = []*sourceDisk{{capacity: info.Size}}
	return s, nil
}

// exportName is what files of an export are called.
func exportName(a address) string {
	if base := filepath.Base("/" + a.export); base != "/" {
		return strings.TrimSuffix(base, filepath.Ext(base))
	}
	if a.network == "unix" {
		base := filepath.Base(a.at)
		return strings.TrimSuffix(base, filepath.Ext(base))
	}
	return "disk"
}

// export is a disk that an NBD server serves.
type export struct {
	uri   string
	r     *nbd.Reader
	size  int64
	areas []transfer.Area // that may hold data, in order
}

// identity is the same for as long as the server has a disk of that size there. What
// it holds may be another's by then: NBD does not tell.
func (e *export) identity() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %d", e.uri, e.size))
	return fmt.Sprintf(identityPrefix+"nbd:%x", h[:16])
}

// image is the disk as [disk.CopyImage] reads it, until ctx ends. What is received, and
// how often a read was tried again, is counted into file.
func (e *export) image(ctx context.Context, file *progress.File) *exportImage {
	return &exportImage{export: e, ctx: ctx, o: transfer.Options{
		Workers: 1, File: file, Budget: transfer.NewBudget(transfer.BudgetOptions{Retries: rereads, Min: rereadIn}),
	}}
}

// A read that failed is tried again so often without progress, after a wait that grows.
const (
	rereads  = 5
	rereadIn = 200 * time.Millisecond
)

// exportImage is an export that is read.
type exportImage struct {
	*export
	ctx context.Context //nolint:containedctx // io.ReaderAt takes none
	o   transfer.Options
}

// NextData is that of a [disk.Image].
func (e *exportImage) NextData(off int64) (start, end int64, err error) {
	i := sort.Search(len(e.areas), func(i int) bool { return e.areas[i].Offset+e.areas[i].Length > off })
	if i == len(e.areas) {
		return e.size, e.size, nil
	}
	return max(off, e.areas[i].Offset), e.areas[i].Offset + e.areas[i].Length, nil
}

// ReadAt reads from the server. A connection that breaks is made again.
func (e *exportImage) ReadAt(p []byte, off int64) (int, error) {
	piece := transfer.NewAreas([]transfer.Area{{Offset: off, Length: int64(len(p))}})
	body, err := transfer.NewReader(e.ctx, piece.Source(e.r, e.size), transfer.Info{Size: piece.Total(), Ranges: true}, e.o)
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(body, p)
	return n, errors.Join(err, body.Close())
}
