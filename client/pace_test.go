package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// busyDaemon answers 429 to the first so many requests, and keeps all bodies.
type busyDaemon struct {
	busy   int
	after  int // seconds
	bodies []string
}

func (b *busyDaemon) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	b.bodies = append(b.bodies, string(body))
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(`{"job_ids":["a"],"accepted":1}`))}
	if len(b.bodies) <= b.busy {
		resp.StatusCode, resp.Header = http.StatusTooManyRequests, http.Header{"Retry-After": {strconv.Itoa(b.after)}}
		resp.Body = io.NopCloser(strings.NewReader(`{"error":"too many requests"}`))
	}
	return resp, nil
}

func (b *busyDaemon) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New("http://localhost", client.Options{HTTPClient: &http.Client{Transport: b}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestARequestThatIsToComeAMomentLaterDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &busyDaemon{busy: 2, after: 3}
		began := time.Now()
		r, err := b.client(t).Submit(t.Context(), []job.Definition{definition("/DC0/vm/a")}, true)
		if err != nil || r.Accepted != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("waited %v, want twice 3 s", took)
		}
		if len(b.bodies) != 3 || b.bodies[0] == "" || b.bodies[1] != b.bodies[0] || b.bodies[2] != b.bodies[0] {
			t.Errorf("sent %q", b.bodies)
		}
	})
}

func TestADaemonThatStaysBusyIsNotAskedForEver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		after, requests int
		body            io.Reader
	}{
		"a moment":                      {1, 5, strings.NewReader("vm_path: a")},
		"a minute, as of a full queue":  {60, 1, strings.NewReader("vm_path: a")},
		"no time":                       {0, 1, strings.NewReader("vm_path: a")},
		"a body that is read only once": {1, 1, io.MultiReader(strings.NewReader("vm_path: a"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &busyDaemon{busy: 1000, after: tt.after}
				_, err := b.client(t).SubmitFile(t.Context(), tt.body, "application/yaml", true)
				var e *client.Error
				if !errors.Is(err, client.ErrTooMany) || !errors.As(err, &e) || e.RetryAfter != time.Duration(tt.after)*time.Second {
					t.Errorf("error %v", err)
				}
				if len(b.bodies) != tt.requests {
					t.Errorf("%d requests, want %d", len(b.bodies), tt.requests)
				}
			})
		})
	}
}

func TestWhoGivesUpDoesNotWaitForABusyDaemon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := (&busyDaemon{busy: 1, after: 9}).client(t).Status(ctx)
		if !errors.Is(err, client.ErrTooMany) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
