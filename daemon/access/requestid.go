package access

import (
	"context"
	"crypto/rand"
	"strings"
)

// maxRequestID is how long a request's id may be, in bytes.
const maxRequestID = 64

type requestIDKey struct{}

// NewRequestID returns given when it can be the id of a request in logs, and
// otherwise a new one.
func NewRequestID(given string) string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/+=", r)
	}
	if given == "" || len(given) > maxRequestID || strings.ContainsFunc(given, odd) {
		return rand.Text()
	}
	return given
}

// WithRequestID returns a context of the request with that id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id of the request that ctx is of, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
