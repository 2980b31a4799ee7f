package findings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxSize is how large a report may be in bytes; real ones have a few thousand.
const maxSize = 1 << 20

// ErrNotReport is that something is not a report that this program reads.
var ErrNotReport = errors.New("not a probe report that this program reads")

// Error says what is wrong with a report, and where. It is an [ErrNotReport].
type Error struct {
	Where string // as "line 3, column 14" or "lease.range"
	What  string
}

// Error gives both.
func (e *Error) Error() string {
	if e.Where == "" {
		return e.What
	}
	return e.Where + ": " + e.What
}

// Unwrap is [ErrNotReport].
func (e *Error) Unwrap() error { return ErrNotReport }

// Read reads the report in a file. Its errors name the file.
func Read(name string) (Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return Report{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Report{}, err
	}
	r, err := Decode(b)
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// Decode reads a report. A field that is not known, a word that a field does not have,
// and a format that is newer than [Format] are refused, each with its place: a report
// that is half understood would be taken for something that it does not say. A field
// that is missing was not looked at, so that an older report with fewer fields is read.
// The error is an [*Error].
func Decode(b []byte) (Report, error) {
	var r Report
	if len(b) > maxSize {
		return r, &Error{What: fmt.Sprintf("it has more than %d bytes", maxSize)}
	}
	var head struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return r, misread(b, 0, err)
	}
	switch {
	case head.Format == nil:
		return r, &Error{Where: "format", What: "it is missing: this is no report of hyper2kvm probe"}
	case *head.Format < 1:
		return r, &Error{Where: "format", What: fmt.Sprintf("%d is no format that there has been", *head.Format)}
	case *head.Format > Format:
		return r, &Error{Where: "format", What: fmt.Sprintf("%d is newer than %d, the newest that this program reads: take a newer hyper2kvm", *head.Format, Format)}
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Report{}, misread(b, dec.InputOffset(), err)
	}
	if err := r.Check(); err != nil {
		return Report{}, err
	}
	return r, nil
}

// misread words an error of package json. at is where the decoder was.
func misread(b []byte, at int64, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return &Error{Where: place(b, syntax.Offset), What: "not JSON: " + syntax.Error()}
	case errors.As(err, &kind):
		where := place(b, kind.Offset)
		if kind.Field != "" {
			where += ", " + kind.Field
		}
		return &Error{Where: where, What: fmt.Sprintf("a %s where a %s belongs", kind.Value, kind.Type)}
	case len(bytes.TrimSpace(b)) == 0:
		return &Error{What: "it is empty"}
	}
	if strings.HasPrefix(err.Error(), "json: unknown field ") { // without its place
		if s := firstStranger(b, reflect.TypeFor[Report]()); s != nil {
			return &Error{Where: place(b, s.end), What: fmt.Sprintf("there is no field %.60q; a newer hyper2kvm may know it", s.path)}
		}
	}
	return &Error{Where: place(b, at), What: strings.TrimPrefix(err.Error(), "json: ")}
}

// place is where in b the byte before offset stands, for people.
func place(b []byte, offset int64) string {
	offset = min(max(offset-1, 0), int64(len(b)))
	before := b[:offset]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d", line, column)
}

// Encode returns the report as JSON, indented and with its last line ended. A field
// that holds something it may not is an error: nothing of it gets out.
func (r Report) Encode() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// Check reports the first field that holds what it may not, as an [*Error].
func (r Report) Check() error { return check(reflect.ValueOf(r), "", "") }

// reasons are the words of fields with the tag one:"reason".
var reasons = []Answer{
	PowerState, NoPermission, Busy, NotExportable, Unsupported, Unreachable, Untrusted, TimedOut, InUse, Memory,
	Ticket, Protocol, NotFound, Snapshots, NoVM, Interrupted, Failed,
}

// Bounds of lists, and of the ids of privileges.
const maxList = 64

var (
	privilegeID = regexp.MustCompile(`^[A-Z][A-Za-z]{0,40}(\.[A-Z][A-Za-z0-9]{0,40}){1,4}$`)
	texts       = map[string]*regexp.Regexp{
		"version": regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$`),
		"number":  regexp.MustCompile(`^[0-9][0-9.]{0,31}$`),
		"day":     regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`),
		"word":    regexp.MustCompile(`^[A-Za-z0-9 ]{1,40}$`),
	}
)

// check looks at one value, at whose field the path leads and whose tag says what it may be.
func check(v reflect.Value, path string, tag reflect.StructTag) error {
	switch v.Kind() { //nolint:exhaustive // a report has no others
	case reflect.Struct:
		return checkFields(v, path)
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return check(v.Elem(), path, tag)
	case reflect.Slice:
		if v.Len() > maxList {
			return &Error{path, fmt.Sprintf("%d elements; at most %d are read", v.Len(), maxList)}
		}
		for i := range v.Len() {
			if err := check(v.Index(i), path+"["+strconv.Itoa(i)+"]", tag); err != nil {
				return err
			}
		}
	case reflect.Map:
		return checkPrivileges(v, path, tag)
	case reflect.Int:
		limit, _ := strconv.ParseInt(tag.Get("max"), 10, 64)
		if n := v.Int(); limit > 0 && (n < 0 || n > limit) {
			return &Error{path, fmt.Sprintf("%d is not between 0 and %d", n, limit)}
		}
	case reflect.Int64:
		if v.Int() < 0 {
			return &Error{path, "it is negative"}
		}
	case reflect.String:
		return checkText(v.String(), path, tag)
	}
	return nil
}

func checkFields(v reflect.Value, path string) error {
	for f, value := range v.Fields() {
		at := path
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			at = strings.TrimPrefix(path+"."+name, ".")
		}
		if err := check(value, at, f.Tag); err != nil {
			return err
		}
	}
	return nil
}

func checkPrivileges(v reflect.Value, path string, tag reflect.StructTag) error {
	if v.Len() > maxList {
		return &Error{path, fmt.Sprintf("%d privileges; at most %d are read", v.Len(), maxList)}
	}
	for _, id := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
		if !privilegeID.MatchString(id.String()) {
			return &Error{path, fmt.Sprintf("%.60q is not the id of a privilege", id.String())}
		}
		if err := oneOf(v.MapIndex(id).String(), path+"."+id.String(), tag.Get("all")); err != nil {
			return err
		}
	}
	return nil
}

func checkText(s, path string, tag reflect.StructTag) error {
	if s == "" {
		return nil
	}
	if kind := tag.Get("text"); kind != "" {
		if !texts[kind].MatchString(s) {
			return &Error{path, fmt.Sprintf("%.60q is not a %s", s, kind)}
		}
		return nil
	}
	return oneOf(s, path, tag.Get("one"))
}

func oneOf(s, path, words string) error {
	known := strings.Split(words, "|")
	if words == "reason" {
		known = known[:0]
		for _, r := range reasons {
			known = append(known, string(r))
		}
	}
	if s == "" || slices.Contains(known, s) {
		return nil
	}
	return &Error{path, fmt.Sprintf("%.60q: want one of %s", s, strings.Join(known, ", "))}
}

// Text returns s if a report may hold it as a text of that kind ("version", "number",
// "day", "word"), and else "".
func Text(kind, s string) string {
	if texts[kind].MatchString(s) {
		return s
	}
	return ""
}
