package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
)

// decodeJobs decodes a job file and maps what is wrong with it to an answer.
func decodeJobs(b []byte, contentType string) (jobfile.Batch, error) {
	batch, err := jobfile.Decode(bytes.NewReader(b), contentType)
	if err == nil {
		return batch, nil
	}
	if errors.Is(err, jobfile.ErrTooLarge) {
		return batch, failure(http.StatusRequestEntityTooLarge, err.Error())
	}
	causes := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		causes = joined.Unwrap()
	}
	e := failure(http.StatusBadRequest, "the jobs cannot be read")
	for _, c := range causes {
		e.details = append(e.details, models.ProblemDetail{Message: c.Error(), Location: "body"})
	}
	return batch, e
}

// decodeJSON decodes the JSON object b into out, a struct of plain fields,
// strictly and whatever media type it was sent as: every key is one of out's as
// it is written there, and stands once. A null is the same as leaving the key
// out. Errors name the key, never a value.
func decodeJSON(b []byte, out any) error {
	b = jobfile.WithoutBOM(b)
	err := checkObject(b, jsonFields(out))
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err == nil {
		return nil
	}
	var typeErr *json.UnmarshalTypeError
	var syntaxErr *json.SyntaxError
	text := err.Error()
	switch {
	case errors.As(err, &typeErr):
		text = fmt.Sprintf("%s: a JSON %s cannot stand here", fieldOr(typeErr.Field), jsonKind(typeErr.Value))
	case errors.As(err, &syntaxErr):
		text = fmt.Sprintf("not valid JSON at byte %d", syntaxErr.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		text = "the JSON ends too early"
	}
	return failure(http.StatusBadRequest, "body: "+text)
}

// checkObject sees to it that b is one JSON object whose keys are among fields.
// Package json alone takes null for an empty object, "ALL" for "all", and the
// last of two equal keys.
func checkObject(b []byte, fields []string) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	first, err := dec.Token()
	if err != nil {
		return err
	}
	if first != json.Delim('{') {
		return errors.New("must be a JSON object")
	}
	seen := make(map[string]bool)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string) // the decoder sees to it
		switch {
		case !slices.Contains(fields, key):
			return fmt.Errorf("unknown field %s%s", jobfile.QuoteKey(key), spelling(key, fields))
		case seen[key]:
			return fmt.Errorf("field %q is given twice", key)
		}
		seen[key] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		var list []json.RawMessage
		if json.Unmarshal(value, &list) == nil && slices.ContainsFunc(list, isNull) {
			return fmt.Errorf("%s: a JSON null cannot stand here", key)
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, end := dec.Token(); !errors.Is(end, io.EOF) {
		return errors.New("there is more after the JSON value")
	}
	return nil
}

func isNull(v json.RawMessage) bool { return string(v) == "null" }

// spelling is a hint when a key differs from a known one in capitals only.
func spelling(key string, fields []string) string {
	for _, f := range fields {
		if strings.EqualFold(f, key) {
			return fmt.Sprintf("; it is written %q", f)
		}
	}
	return ""
}

// jsonFields returns the names under which package json knows the fields of the
// struct that out points to.
func jsonFields(out any) []string {
	t := reflect.TypeOf(out).Elem()
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

func fieldOr(field string) string {
	if field == "" {
		return "the whole"
	}
	return field
}

// jsonKind drops the literal that encoding/json appends to some kinds, as in
// "number 12.5".
func jsonKind(s string) string {
	kind, _, _ := strings.Cut(s, " ")
	return kind
}
