package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// session is the one place through which every SOAP call goes. It logs in
// again once when the session has ended, and repeats the call (F-INV-2); it
// repeats reading calls whose connection broke.
//
// What vSphere ties to a session (views, page tokens) is gone after that: who
// uses those compares [session.generation] before and after.
type session struct {
	soap     *soap.Client
	vim      *vim25.Client // its RoundTripper is this session
	user     string
	password string

	turn chan struct{} // held by whoever logs in

	mu   sync.Mutex
	gen  int       // counts logins
	key  string    // of the session
	used time.Time // when the last call ended
}

// reads are the beginnings of the names of methods that may be repeated
// without harm when it is not known whether the first call arrived.
var reads = []string{"RetrieveP", "Query", "HasPrivilege", "CurrentTime", "HttpNfcLeaseProgress", "HttpNfcLeaseGetManifest", "CreateContainerView"}

// readAttempts bounds how often a reading call is sent.
const readAttempts = 3

// RoundTrip implements soap.RoundTripper.
func (s *session) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return s.call(ctx, req, func() error {
		reset(res)
		if err := s.soap.RoundTrip(ctx, req, res); err != nil {
			return err
		}
		if body, ok := res.(*methods.RetrievePropertiesExBody); ok && body.Res != nil && body.Res.Returnval != nil {
			return unauthenticated(body.Res.Returnval.Objects)
		}
		return nil
	})
}

// call sends req by once, and again after the session was renewed.
func (s *session) call(ctx context.Context, req soap.HasFault, once func() error) error {
	gen := s.generation()
	err := s.send(ctx, req, once)
	if !isFault(err, "NotAuthenticated") || isMethod(req, "Login", "Logout") {
		return err
	}
	if err := s.renew(ctx, gen); err != nil {
		return err
	}
	return s.send(ctx, req, once)
}

// send sends req by once, and for reading methods again when the connection
// broke.
func (s *session) send(ctx context.Context, req soap.HasFault, once func() error) error {
	for attempt := 1; ; attempt++ {
		err := once()
		s.mu.Lock()
		s.used = time.Now()
		s.mu.Unlock()
		if err == nil || attempt == readAttempts || !isMethod(req, reads...) || !broken(err) || ctx.Err() != nil {
			return err
		}
		if err := sleep(ctx, time.Duration(attempt)*200*time.Millisecond); err != nil {
			return err
		}
	}
}

// post sends req and returns the answer as it came, for who decodes it
// elsewhere. Refusals are errors as RoundTrip gives them.
func (s *session) post(ctx context.Context, req soap.HasFault) ([]byte, error) {
	body, err := xml.Marshal(soap.Envelope{Body: req})
	if err != nil {
		return nil, err
	}
	var raw []byte
	err = s.call(ctx, req, func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.soap.URL().String(), bytes.NewReader(append([]byte(xml.Header), body...)))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
		r.Header.Set("SOAPAction", s.soap.Namespace+"/"+s.soap.Version)
		return s.soap.Do(ctx, r, func(answer *http.Response) error {
			if raw, err = io.ReadAll(answer.Body); err != nil {
				return err
			}
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			return s.refusal(answer, raw)
		})
	})
	return raw, err
}

// refusal is the error that an answer other than 200 stands for.
func (s *session) refusal(answer *http.Response, raw []byte) error {
	var res methods.RetrievePropertiesExBody
	if answer.StatusCode == http.StatusInternalServerError && s.decode(raw, &res) == nil && res.Fault_ != nil {
		return soap.WrapSoapFault(res.Fault_)
	}
	return errors.New(answer.Status)
}

// decode reads a SOAP envelope.
func (s *session) decode(raw []byte, body soap.HasFault) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	d.TypeFunc = s.soap.Types
	return d.Decode(&soap.Envelope{Body: body})
}

// generation tells one login from the next.
func (s *session) generation() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gen
}

// sessionKey names the session to the AuthorizationManager.
func (s *session) sessionKey() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

// renew logs in unless somebody has since generation gen.
func (s *session) renew(ctx context.Context, gen int) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.generation() != gen {
		return nil
	}
	return s.login(ctx)
}

// login opens a session. Its cookie is kept by the HTTP client's jar.
func (s *session) login(ctx context.Context) error {
	res, err := methods.Login(ctx, s, &types.Login{
		This:     *s.vim.ServiceContent.SessionManager,
		UserName: s.user,
		Password: s.password,
		Locale:   "en_US",
	})
	if err != nil {
		return translate("log in as "+s.user+" at "+s.soap.URL().Host, "", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	s.key = res.Returnval.Key
	return nil
}

// logout ends the session; the cookie is worthless afterwards.
func (s *session) logout(ctx context.Context) error {
	_, err := methods.Logout(ctx, s, &types.Logout{This: *s.vim.ServiceContent.SessionManager})
	if _, gone := faultOf(err).(*types.NotAuthenticated); gone {
		return nil
	}
	return err
}

// keepAlive makes a cheap call whenever the session was idle for that long,
// until ctx ends.
func (s *session) keepAlive(ctx context.Context, idle time.Duration) {
	used := func() time.Time {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.used
	}
	touch := func(ctx context.Context) {
		call, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, _ = methods.GetCurrentTime(call, s) // its failure shows at the next call that matters
	}
	whenIdle(ctx, idle, used, touch)
}

// whenIdle calls touch whenever the time since used has reached idle, and at
// most once in that time.
func whenIdle(ctx context.Context, idle time.Duration, used func() time.Time, touch func(context.Context)) {
	for wait := idle; sleep(ctx, wait) == nil; {
		if wait = idle - time.Since(used()); wait <= 0 {
			touch(ctx)
			wait = idle
		}
	}
}

// cookie is the session's cookie as a Cookie header sends it, with the double
// quotes that vSphere puts around the value (F-NFC-7), or "".
func (s *session) cookie() string {
	u := s.soap.URL()
	jar := s.soap.Jar.Cookies(u)
	if len(jar) == 0 {
		u.Path = "/"
		jar = s.soap.Jar.Cookies(u)
	}
	req := http.Request{Header: http.Header{}}
	for _, c := range jar {
		req.AddCookie(c)
	}
	return req.Header.Get("Cookie")
}

// unauthenticated gives the fault of a property collector that could read
// nothing because the session has ended, which is no fault of the call.
func unauthenticated(objects []types.ObjectContent) error {
	for i := range objects {
		for _, m := range objects[i].MissingSet {
			if f, is := m.Fault.Fault.(*types.NotAuthenticated); is {
				return soap.WrapVimFault(f)
			}
		}
	}
	return nil
}

// isMethod says whether the request's method begins with one of names.
func isMethod(req soap.HasFault, names ...string) bool {
	name := reflect.TypeOf(req).Elem().Name()
	for _, n := range names {
		if strings.HasPrefix(name, n) {
			return true
		}
	}
	return false
}

// reset clears what a failed call left in res.
func reset(res soap.HasFault) { reflect.ValueOf(res).Elem().SetZero() }

// broken says whether err is a connection's end rather than an answer.
func broken(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.As(err, &op) && op.Op == "read"
}

// sleep waits for d, or for ctx to end, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// bounded returns a context that ends d after ctx has ended, and carries its
// values. Calls that change something at the other end run under it, so that
// they are not abandoned half-way: whoever makes one learns what came of it,
// and can undo it (F-NFC-17).
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(d, func() { cancel(fmt.Errorf("no answer within %v of the end: %w", d, context.Cause(ctx))) })
	})
	return out, func() { stop(); cancel(context.Canceled) }
}
