package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/api/wire"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// decodeJobs decodes a job file and maps what is wrong with it to an answer.
func decodeJobs(b []byte, contentType string) (models.Batch, error) {
	batch, err := models.DecodeJobs(bytes.NewReader(b), contentType)
	if err == nil {
		return batch, nil
	}
	if errors.Is(err, models.ErrTooLarge) {
		return batch, failure(http.StatusRequestEntityTooLarge, err.Error())
	}
	causes := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		causes = joined.Unwrap()
	}
	e := failure(http.StatusBadRequest, "the jobs cannot be read")
	for _, c := range causes {
		e.details = append(e.details, wire.ProblemDetail{Message: c.Error(), Location: "body"})
	}
	return batch, e
}

// decodeJSON decodes a small JSON body strictly, whatever media type it was
// sent as. Errors name the key, never a value.
func decodeJSON(b []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(out)
	if err == nil {
		if _, end := dec.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("there is more after the JSON value")
		}
	}
	if err == nil {
		return nil
	}
	var typeErr *json.UnmarshalTypeError
	var syntaxErr *json.SyntaxError
	text := strings.TrimPrefix(err.Error(), "json: ")
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
