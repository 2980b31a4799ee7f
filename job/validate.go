package job

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hyper2kvm/hyper2kvm/units"
)

// Bounds of a job's fields.
const (
	DefaultParallelDownloads = 4
	MaxParallelDownloads     = 64
	MaxRetries               = 20
	MaxPriority              = 100 // and -MaxPriority

	maxName = 255  // bytes
	maxPath = 4096 // bytes
	maxHost = 262  // bytes, of the longest name in DNS, brackets or a dot, and a port
	maxID   = 64   // bytes
)

// Problem is one reason why a definition cannot work. It quotes no value.
type Problem struct {
	Field  string // path in the job, such as "options.format"
	Reason string
}

// String returns "field: reason".
func (p Problem) String() string { return p.Field + ": " + p.Reason }

// ValidationError is every problem of one definition. It quotes no value.
type ValidationError struct{ Problems []Problem }

// Error joins the problems.
func (e *ValidationError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "; ")
}

// WithDefaults returns d with everything filled in that was left out: 4
// parallel downloads, format ovf, and the last element of the VM's path as
// name. User info in VCenterURL moves to Username and Password when those are
// empty, so that a URL never carries a password.
func (d Definition) WithDefaults() Definition {
	if d.Options.ParallelDownloads == 0 {
		d.Options.ParallelDownloads = DefaultParallelDownloads
	}
	if d.Options.Format == "" {
		d.Options.Format = FormatOVF
	}
	if d.Name == "" {
		name := path.Base(d.VMPath)
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain // vSphere writes "/" in a name as %2f: F-INV-1
		}
		d.Name = name
	}
	if d.OutputPath != "/" {
		d.OutputPath = strings.TrimRight(d.OutputPath, "/")
	}
	return d.splitUserInfo()
}

func (d Definition) splitUserInfo() Definition {
	u, err := url.Parse(d.VCenterURL)
	if err != nil || u.User == nil || d.Username != "" || d.Password != "" {
		return d
	}
	d.Username = u.User.Username()
	d.Password, _ = u.User.Password()
	u.User = nil
	d.VCenterURL = u.String()
	return d
}

// VCenterKey identifies the job's vCenter for limits and fairness: its name in
// the daemon's configuration, the host of its URL, or "" for the daemon's
// default. It holds no secret.
func (d Definition) VCenterKey() string {
	if d.VCenterURL == "" {
		return d.VCenter
	}
	u, err := url.Parse(d.VCenterURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// Validate returns every problem of d in one *[ValidationError], or nil. It
// expects d to be [Definition.WithDefaults].
func (d Definition) Validate() error {
	var v validator
	v.id(d.ID)
	v.text("name", d.Name, maxName)
	if v.present("vm_path", d.VMPath) {
		v.text("vm_path", d.VMPath, maxPath)
	}
	if v.present("output_path", d.OutputPath) {
		v.outputPath(d.OutputPath)
	}
	v.options(d.Options)
	v.vcenter(d)
	v.within("priority", d.Priority, -MaxPriority, MaxPriority)
	if err := d.Constraint.Check(); err != nil {
		v.add("constraint", "%v", err)
	}
	if len(v.problems) == 0 {
		return nil
	}
	return &ValidationError{Problems: v.problems}
}

type validator struct{ problems []Problem }

func (v *validator) add(field, format string, args ...any) {
	v.problems = append(v.problems, Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (v *validator) present(field, s string) bool {
	if strings.TrimSpace(s) == "" {
		v.add(field, "is required")
		return false
	}
	return true
}

func (v *validator) text(field, s string, limit int) {
	if len(s) > limit {
		v.add(field, "is longer than %d bytes", limit)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		v.add(field, "must not hold control characters")
	}
}

func (v *validator) within(field string, n, low, high int) {
	if n < low || n > high {
		v.add(field, "must be from %d to %d", low, high)
	}
}

// reservedIDs are the words that stand below /jobs in the REST API's paths. A
// job of that name could not be told from an endpoint.
var reservedIDs = [...]string{"cancel", "check", "events", "limit", "query", "retry", "rollback", "submit"}

// id accepts what can stand in a URL's path and in a file's name unescaped.
func (v *validator) id(s string) {
	plain := func(r rune) bool {
		return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || r == '-' || r == '_' || r == '.'
	}
	bad := strings.ContainsFunc(s, func(r rune) bool { return !plain(r) })
	if bad || len(s) > maxID || strings.HasPrefix(s, ".") {
		v.add("id", "must be at most %d letters, digits, '-', '_' and '.', and not begin with '.'", maxID)
	}
	if slices.Contains(reservedIDs[:], s) {
		v.add("id", "must not be a word of the daemon's own paths: %s", strings.Join(reservedIDs[:], ", "))
	}
}

func (v *validator) outputPath(s string) {
	v.text("output_path", s, maxPath)
	switch {
	case !path.IsAbs(s):
		v.add("output_path", "must be absolute: the daemon has no working directory that you know of")
	case path.Clean(s) != s:
		v.add("output_path", "must be clean: without //, /./ and /../")
	case s == "/":
		v.add("output_path", "must not be the root directory")
	}
}

func (v *validator) options(o Options) {
	v.within("options.parallel_downloads", o.ParallelDownloads, 1, MaxParallelDownloads)
	v.within("options.retries", o.Retries, 0, MaxRetries)
	switch o.Format {
	case FormatOVF, FormatOVA, FormatRaw, FormatQcow2:
	default:
		v.add("options.format", "must be %s, %s, %s or %s", FormatOVF, FormatOVA, FormatRaw, FormatQcow2)
	}
	switch o.Transport {
	case "", TransportNFC, TransportAuto:
	case TransportDatastore, TransportNFC902, TransportVDDK:
		if o.Format != FormatRaw && o.Format != FormatQcow2 {
			v.add("options.transport", "%s needs format %s or %s: an OVF package is made of the streams that only a lease gives",
				o.Transport, FormatQcow2, FormatRaw)
		} else if o.Compress {
			v.add("options.transport", "%s excludes compress: compressed images are made of the streams that only a lease gives", o.Transport)
		}
	default:
		v.add("options.transport", "must be %s, %s or %s, %s for port 902 of the ESXi host, or %s for VMware's own library", TransportNFC, TransportDatastore, TransportAuto, TransportNFC902, TransportVDDK)
	}
	if _, err := units.ParseRate(o.Limit); err != nil {
		v.add("options.limit", "must be a rate such as 200MB/s, 25MiB/s or 1Gbit/s")
	}
	v.networkMap(o)
	if _, err := ParseTargets(o.For); err != nil {
		v.add("options.for", "must name some of %s, with commas in between", strings.Join(Targets[:], ", "))
	} else if o.For != "" && o.Format.Streams() {
		v.add("options.for", "needs format %s or %s: those platforms take images", FormatQcow2, FormatRaw)
	}
	v.power(o)
	v.rollback(o)
	v.landing(o)
	v.finish(o)
	if o.Verify != "" && o.Verify != VerifyFull && o.Verify != VerifyManifest {
		v.add("options.verify", `must be "full", "manifest" or left out`)
	}
	if o.Compress && o.Format != FormatQcow2 {
		v.add("options.compress", "needs format %s", FormatQcow2)
	}
	if o.Convert && o.Format.Streams() {
		v.add("options.convert", "needs format %s or %s: a guest is converted in its images", FormatQcow2, FormatRaw)
	}
	if o.KeepIP && o.Format.Streams() {
		v.add("options.keep_ip", "needs format %s or %s: the guest's settings are in its images", FormatQcow2, FormatRaw)
	}
	if o.Virtio && o.Format.Streams() {
		v.add("options.virtio", "needs format %s or %s: an OVF keeps the VM's own hardware", FormatQcow2, FormatRaw)
	}
}

// vcenter sees to it that a job names a vCenter or brings all that is needed
// to reach one: the daemon's own credentials never go to an address that a job
// chose, and a job does not weaken how the daemon's own vCenters are trusted:
// without an address of its own its insecure is accepted and changes nothing.
func (v *validator) vcenter(d Definition) {
	own := []struct {
		field string
		set   bool
	}{
		{"vcenter_url", d.VCenterURL != ""},
		{"username", d.Username != ""},
		{"password", d.Password != ""},
		{"thumbprint", d.Thumbprint != ""},
	}
	v.text("vcenter", d.VCenter, maxName)
	v.text("username", d.Username, maxName)
	for _, f := range own {
		if f.set && d.VCenter != "" {
			v.add(f.field, "excludes vcenter, which names one of the daemon's configuration")
		}
	}
	if d.VCenter != "" {
		return
	}
	if (d.Username == "") != (d.Password == "") {
		v.add("username", "and password are given together or not at all")
	}
	if d.VCenterURL != "" {
		v.url(d)
		return
	}
	if d.Thumbprint != "" {
		v.add("thumbprint", "needs vcenter_url; for the daemon's own vCenter set it in the daemon's configuration")
	}
}

func (v *validator) url(d Definition) {
	u, err := url.Parse(d.VCenterURL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		v.add("vcenter_url", "must be of the form https://host[:port][/sdk]")
	case len(u.Host) > maxHost:
		v.add("vcenter_url", "names a host of more than %d bytes", maxHost)
	case u.User != nil:
		v.add("vcenter_url", "must not hold a user name beside username and password")
	case d.Username == "":
		v.add("username", "is required with vcenter_url: the daemon's own credentials never go to an address of a job")
	}
	if d.Thumbprint != "" && !ValidThumbprint(d.Thumbprint) {
		v.add("thumbprint", "must be a SHA-1 or SHA-256 in hexadecimal digits, with or without colons")
	}
}

// ValidThumbprint reports whether s can be the SHA-1 or SHA-256 of a
// certificate: hexadecimal digits, with or without colons.
func ValidThumbprint(s string) bool {
	digits := strings.ReplaceAll(s, ":", "")
	_, err := hex.DecodeString(digits)
	return err == nil && (len(digits) == 40 || len(digits) == 64)
}
