package vsphere

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/vmware/govmomi/vim25/types"
)

// readItems turns a lease's device URLs into items, and matches the disks
// among them with the target's.
func readItems(urls []types.HttpNfcLeaseDeviceUrl, disks []Disk, service *url.URL) ([]Item, map[string]file, error) {
	var items []Item
	files := map[string]file{}
	taken := map[string]bool{}
	for i, d := range urls {
		u, err := parseDeviceURL(d.Url, service)
		if err != nil {
			return nil, nil, fmt.Errorf("item %q of the lease: %w", d.Key, err)
		}
		key := d.Key
		if _, dup := files[key]; key == "" || dup {
			return nil, nil, fmt.Errorf("item %d of the lease has no key of its own: %q", i, key)
		}
		item := Item{Key: key, TargetID: d.TargetId, Host: hostPort(u), Size: -1}
		item.Disk = isDisk(d, u, disks)
		item.Name = itemName(d, u, i, taken)
		if !item.Disk && d.FileSize > 0 {
			item.Size = d.FileSize
		}
		items = append(items, item)
		files[key] = file{url: u, any: anyHost(d.Url), expect: expectedOf(d)}
	}
	if len(items) == 0 {
		return nil, nil, errors.New("the lease offers nothing")
	}
	matchDisks(items, disks)
	return items, files, nil
}

// expectedOf is what the lease tells of the certificate of a URL's host. A
// thumbprint in a form that is not known counts as none.
func expectedOf(d types.HttpNfcLeaseDeviceUrl) expected {
	x := expected{pem: []byte(d.SslCertificate)}
	if p, err := parseThumbprint(d.SslThumbprint); err == nil {
		x.pins = append(x.pins, p)
	}
	return x
}

// isDisk says whether a device URL gives a virtual disk. Hosts that leave the
// flag out are judged by key and name (F-NFC-14).
func isDisk(d types.HttpNfcLeaseDeviceUrl, u *url.URL, disks []Disk) bool {
	if d.Disk != nil {
		return *d.Disk
	}
	if !strings.HasSuffix(strings.ToLower(u.Path), ".vmdk") {
		return false
	}
	return d.TargetId != "" || diskAt(d.Key, disks) >= 0
}

// itemName is a base name for an item that no other item of the lease has.
func itemName(d types.HttpNfcLeaseDeviceUrl, u *url.URL, i int, taken map[string]bool) string {
	name := safeBase(d.TargetId)
	if name == "" {
		name = safeBase(u.Path)
	}
	if name == "" || taken[strings.ToLower(name)] {
		name = fmt.Sprintf("file-%d%s", i, path.Ext(name))
	}
	taken[strings.ToLower(name)] = true
	return name
}

// safeBase is the last element of a path, fit to be a file name, or "".
func safeBase(s string) string {
	s = s[strings.LastIndexAny(s, `/\`)+1:]
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || strings.ContainsRune(`:*?"<>|`, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
	s = strings.TrimLeft(s, ". ")
	if len(s) > 200 {
		ext := path.Ext(s)
		if len(ext) > 20 {
			ext = ""
		}
		s = strings.ToValidUTF8(s[:200-len(ext)], "") + ext
	}
	return s
}

// parseDeviceURL reads a URL of a lease. A host of * is the service's own host
// and port (F-NFC-5). Names of VMs may stand in the path unescaped, with
// spaces, # and % in them (F-NFC-7): what is no escape is escaped, and a
// question mark begins a query only where one with a value follows.
func parseDeviceURL(s string, service *url.URL) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "https" && scheme != "http" {
		return nil, errors.New("its URL is neither https nor http")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 || rest[end] != '/' {
		return nil, errors.New("its URL has no path")
	}
	host, p := rest[:end], rest[end:]
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	if host == "*" || strings.HasPrefix(host, "*:") {
		host = service.Host // anyHost says so
	}
	query := ""
	if q := strings.LastIndexByte(p, '?'); q >= 0 && queryForm.MatchString(p[q+1:]) {
		p, query = p[:q], "?"+p[q+1:]
	}
	u, err := url.Parse(scheme + "://" + host + escapePath(p) + query)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("its URL cannot be read")
	}
	return u, nil
}

// anyHost says whether a device URL stands for the host that one is connected to.
func anyHost(s string) bool {
	_, rest, _ := strings.Cut(s, "://")
	return strings.HasPrefix(rest, "*")
}

var queryForm = regexp.MustCompile(`^[A-Za-z0-9_.~-]+=[A-Za-z0-9_.~%&=+:-]*$`)

// escapePath escapes what may not stand in a URL's path, and leaves alone what
// is escaped already.
func escapePath(p string) string {
	const plain = "/-._~!$&'()*+,;=:@"
	var b strings.Builder
	for i := range len(p) {
		c := p[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(plain, c) >= 0:
			b.WriteByte(c)
		case c == '%' && i+2 < len(p) && isHex(p[i+1]) && isHex(p[i+2]):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// hostPort is a URL's host with its port.
func hostPort(u *url.URL) string {
	if u.Scheme == "http" {
		return withPort(u.Host, "80")
	}
	return withPort(u.Host, "443")
}

// deviceKey is the end of a lease's key: the class of the controller, its bus
// and the unit on it, as in /vm-12/VirtualLsiLogicController0:0.
var deviceKey = regexp.MustCompile(`(?:^|/)([A-Za-z][A-Za-z0-9]*?)(\d+):(\d+)$`)

// parseDeviceKey reads the family of the controller ("scsi", "sata", "nvme" or
// "ide"), bus and unit from a lease's key.
func parseDeviceKey(key string) (family string, bus, unit int, ok bool) {
	m := deviceKey.FindStringSubmatch(key)
	if m == nil {
		return "", 0, 0, false
	}
	bus, err1 := strconv.Atoi(m[2])
	unit, err2 := strconv.Atoi(m[3])
	class := strings.ToLower(m[1])
	for _, f := range []struct{ part, family string }{
		{"nvme", "nvme"}, {"ahci", "sata"}, {"sata", "sata"}, {"ide", "ide"},
		{"scsi", "scsi"}, {"lsi", "scsi"}, {"buslogic", "scsi"},
	} {
		if strings.Contains(class, f.part) {
			return f.family, bus, unit, err1 == nil && err2 == nil
		}
	}
	return "", 0, 0, false
}

// diskAt is the index of the disk that a lease's key names, or -1.
func diskAt(key string, disks []Disk) int {
	family, bus, unit, ok := parseDeviceKey(key)
	if !ok {
		return -1
	}
	for i, d := range disks {
		if strings.HasPrefix(d.Controller, family) && d.Bus == bus && d.Unit == unit {
			return i
		}
	}
	return -1
}

// matchDisks gives the items that are disks their DiskKey and Capacity, from
// the devices: the lease itself does not tell (F-NFC-11). Keys decide. Those
// that fit no disk are given the disks that are left over, in order, where
// something can prove or disprove it: a single one has no other place, and with
// disks of different sizes the stream's own header tells a wrong guess. Two
// disks of a size could be taken for each other unnoticed, and stay unmatched.
func matchDisks(items []Item, disks []Disk) {
	used := make([]bool, len(disks))
	var open []*Item
	for i := range items {
		item := &items[i]
		if !item.Disk {
			continue
		}
		at := diskAt(item.Key, disks)
		if at < 0 || used[at] {
			open = append(open, item)
			continue
		}
		used[at] = true
		item.DiskKey, item.Capacity = disks[at].Key, disks[at].Capacity
	}
	left := remaining(disks, used)
	if len(left) != len(open) || sameSize(left) {
		return
	}
	for i, item := range open {
		item.DiskKey, item.Capacity, item.Assumed = left[i].Key, left[i].Capacity, len(open) > 1
	}
}

// remaining are the disks that are not used.
func remaining(disks []Disk, used []bool) []Disk {
	var left []Disk
	for i, d := range disks {
		if !used[i] {
			left = append(left, d)
		}
	}
	return left
}

// sameSize says whether two of the disks have the same capacity, or one has
// none that is known.
func sameSize(disks []Disk) bool {
	seen := map[int64]bool{}
	for _, d := range disks {
		if seen[d.Capacity] || d.Capacity <= 0 && len(disks) > 1 {
			return true
		}
		seen[d.Capacity] = true
	}
	return false
}
