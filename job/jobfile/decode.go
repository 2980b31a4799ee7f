// Package jobfile reads job files, strictly: [Decode] turns text into definitions
// and refuses what it does not know. YAML and JSON are first parsed into one kind
// of tree, which a small typed walk then reads, so both report the same errors
// with the same lines. No message quotes a value, because a value in the wrong
// place may be a password; keys are quoted.
package jobfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// MaxSize is the largest job file that [Decode] reads, in bytes.
const MaxSize = 2 << 20

// MaxJobs is how many jobs a job file may hold.
const MaxJobs = 10_000

// ErrTooLarge is returned for a job file over [MaxSize] or [MaxJobs].
var ErrTooLarge = errors.New("the job file is too large")

// Batch is what a job file holds.
type Batch struct {
	Jobs   []job.Definition
	Atomic bool // accept all or none
}

// DecodeError is one thing wrong with a job file's text. It quotes keys and
// no values.
type DecodeError struct {
	Line   int    // from 1; 0 when unknown
	Field  string // where, such as "jobs[2].options"; empty at the top
	Reason string
}

// Error returns "line 3: jobs[2].options: reason".
func (e *DecodeError) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	return b.String() + e.Reason
}

// syntax is how a job file is written.
type syntax int

const (
	anySyntax syntax = iota
	jsonSyntax
	yamlSyntax
)

// syntaxOf tells what a media type says; one it does not know says nothing.
func syntaxOf(contentType string) syntax {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		media = strings.TrimSpace(contentType)
	}
	switch strings.ToLower(media) {
	case "application/json", "text/json":
		return jsonSyntax
	case "application/x-yaml", "application/yaml", "text/yaml", "text/x-yaml":
		return yamlSyntax
	}
	return anySyntax
}

// Decode reads a job file: one job, {jobs: […], atomic: bool}, or a bare
// list of jobs, in JSON or YAML as the media type contentType says; for any
// other (or none) JSON is tried, then YAML.
//
// Decoding is strict: an unknown or repeated key, a value of the wrong kind,
// or a second document is an error. The error joins a *[DecodeError] for each
// of the first few problems, or is [ErrTooLarge], or is that of r. The
// definitions are as written: see [job.Definition.WithDefaults] and
// [job.Definition.Validate].
func Decode(r io.Reader, contentType string) (Batch, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return Batch{}, fmt.Errorf("read the job file: %w", err)
	}
	if len(text) > MaxSize {
		return Batch{}, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxSize)
	}
	if !utf8.Valid(text) {
		return Batch{}, &DecodeError{Reason: "not UTF-8 text; save it as UTF-8"}
	}
	text = WithoutBOM(text)
	root, strict, err := parse(text, syntaxOf(contentType))
	if err != nil {
		return Batch{}, err
	}
	d := decoder{strict: strict}
	b := d.batch(root)
	if len(d.problems) > 0 {
		return Batch{}, errors.Join(d.problems...)
	}
	return b, nil
}

// WithoutBOM returns text without the mark that some editors and shells put
// before UTF-8.
func WithoutBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) }

// parse turns text into a tree, and tells whether it came from JSON, whose
// values have one kind only.
func parse(text []byte, s syntax) (root *yaml.Node, strict bool, err error) {
	if s == yamlSyntax {
		root, err = parseYAML(text)
		return root, false, err
	}
	root, err = parseJSON(text)
	if err == nil || s == jsonSyntax {
		return root, true, err
	}
	if first := strings.TrimSpace(string(text)); strings.HasPrefix(first, "{") || strings.HasPrefix(first, "[") {
		// JSON in intention: its error says more, unless YAML reads it.
		if root, yerr := parseYAML(text); yerr == nil {
			return root, false, nil
		}
		return nil, true, err
	}
	root, err = parseYAML(text)
	return root, false, err
}

// maxProblems bounds what one answer lists.
const maxProblems = 10

// decoder reads a tree into definitions and collects what is wrong.
type decoder struct {
	strict   bool
	problems []error
}

// full reports whether there is no room for another problem, and so no use in
// reading on.
func (d *decoder) full() bool { return len(d.problems) >= maxProblems }

func (d *decoder) fail(n *yaml.Node, field, format string, args ...any) {
	if !d.full() {
		d.problems = append(d.problems, &DecodeError{Line: n.Line, Field: field, Reason: fmt.Sprintf(format, args...)})
	}
}

// batch reads the three forms of a job file.
func (d *decoder) batch(root *yaml.Node) Batch {
	var b Batch
	switch n := resolve(root); {
	case n.Kind == yaml.SequenceNode:
		b.Jobs = d.jobs(n, "")
	case n.Kind != yaml.MappingNode:
		d.fail(n, "", "want a job, a list of jobs, or jobs: with a list")
	case hasKey(n, "jobs"):
		list := n
		d.mapping(n, "", map[string]setter{
			"jobs":   func(v *yaml.Node, _ string) { list = v },
			"atomic": d.boolean(&b.Atomic),
		})
		b.Jobs = d.jobs(list, "jobs")
	default:
		b.Jobs = []job.Definition{d.job(n, "")}
	}
	return b
}

func (d *decoder) jobs(list *yaml.Node, field string) []job.Definition {
	if list.Kind != yaml.SequenceNode {
		d.fail(list, field, "want a list of jobs")
		return nil
	}
	switch n := len(list.Content); {
	case n == 0:
		d.fail(list, field, "the list of jobs is empty")
	case n > MaxJobs:
		d.problems = append(d.problems, fmt.Errorf("%w: more than %d jobs", ErrTooLarge, MaxJobs))
		return nil
	}
	var all []job.Definition
	for i, n := range list.Content {
		if d.full() {
			break
		}
		all = append(all, d.job(n, fmt.Sprintf("%s[%d]", field, i)))
	}
	return all
}

// job reads one definition.
func (d *decoder) job(n *yaml.Node, field string) job.Definition {
	var j job.Definition
	d.mapping(n, field, map[string]setter{
		"id":          d.text(&j.ID),
		"name":        d.text(&j.Name),
		"vm_path":     d.text(&j.VMPath),
		"output_path": d.text(&j.OutputPath),
		"options":     func(v *yaml.Node, field string) { j.Options = d.options(v, field) },
		"vcenter":     d.text(&j.VCenter),
		"vcenter_url": d.text(&j.VCenterURL),
		"username":    d.text(&j.Username),
		"password":    d.text(&j.Password),
		"insecure":    d.boolean(&j.Insecure),
		"thumbprint":  d.text(&j.Thumbprint),
		"priority":    d.number(&j.Priority),
		"created_at":  d.time(&j.CreatedAt),
		"constraint":  d.texts((*map[string]string)(&j.Constraint)),
	})
	return j
}

func (d *decoder) options(n *yaml.Node, field string) job.Options {
	var o job.Options
	var format, transport, verify, collision string
	d.mapping(n, field, map[string]setter{
		"parallel_downloads":       d.number(&o.ParallelDownloads),
		"remove_cdrom":             d.boolean(&o.RemoveCDROM),
		"show_individual_progress": d.boolean(&o.ShowIndividualProgress),
		"format":                   d.text(&format),
		"snapshot":                 d.boolean(&o.Snapshot),
		"shutdown":                 d.boolean(&o.Shutdown),
		"shutdown_timeout":         d.text(&o.ShutdownTimeout),
		"power_off":                d.boolean(&o.PowerOff),
		"finish":                   d.text(&o.Finish),
		"virtio":                   d.boolean(&o.Virtio),
		"convert":                  d.boolean(&o.Convert),
		"keep_ip":                  d.boolean(&o.KeepIP),
		"compress":                 d.boolean(&o.Compress),
		"overwrite":                d.boolean(&o.Overwrite),
		"verify":                   d.text(&verify),
		"retries":                  d.number(&o.Retries),
		"transport":                d.text(&transport),
		"limit":                    d.text(&o.Limit),
		"network_map":              d.texts(&o.NetworkMap),
		"for":                      d.text(&o.For),
		"libvirt":                  d.text(&o.Libvirt),
		"pool":                     d.text(&o.Pool),
		"define":                   d.boolean(&o.Define),
		"start":                    d.boolean(&o.Start),
		"on_collision":             d.text(&collision),
		"rollback":                 d.boolean(&o.Back),
		"stop_timeout":             d.text(&o.StopTimeout),
		"target_is_stopped":        d.boolean(&o.TargetIsStopped),
	})
	o.OnCollision = job.OnCollision(collision)
	o.Format, o.Transport, o.Verify = job.Format(format), job.Transport(transport), job.Verify(verify)
	return o
}

// mapping reads a mapping of known keys, each at most once. A null is the same
// as leaving the key out.
func (d *decoder) mapping(n *yaml.Node, field string, known map[string]setter) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.fail(n, field, "want keys and values")
		return
	}
	seen := make(map[string]int, len(known))
	for i := 0; i+1 < len(n.Content) && !d.full(); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		name := key.Value
		set, ok := known[name]
		first, again := seen[name]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.fail(key, field, "a key must be plain text")
		case !ok:
			d.fail(key, field, "unknown key %s%s", QuoteKey(name), suggest(name, known))
		case again:
			d.fail(key, field, "key %s was given in line %d already", QuoteKey(name), first)
		case !isNull(value):
			set(value, strings.TrimPrefix(field+"."+name, "."))
		}
		seen[name] = key.Line
	}
}

// QuoteKey quotes a key for a message, shortened: keys come from outside too.
func QuoteKey(key string) string {
	const most = 64
	if len(key) > most {
		key = strings.ToValidUTF8(key[:most], "") + "…"
	}
	return fmt.Sprintf("%q", key)
}

// suggest returns a hint when a key differs from a known one in how it is
// spelt only: vmPath, vm-path, VM_PATH.
func suggest(key string, known map[string]setter) string {
	bare := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
	}
	for name := range known {
		if bare(name) == bare(key) {
			return fmt.Sprintf("; it is written %q", name)
		}
	}
	if key == "<<" {
		return "; merge keys are not read, write the values out"
	}
	return ""
}
