package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// session is the one place through which every SOAP call goes. It bounds each
// attempt at a call, logs in again when the session has ended (F-INV-2), and
// repeats calls that got no answer, as their kind allows: see [kinds].
//
// What vSphere ties to a session (views, page tokens) is gone after a new
// login: who uses those compares [session.generation] before and after.
type session struct {
	soap     *soap.Client
	vim      *vim25.Client // its RoundTripper is this session
	user     string
	password string
	gate     func(ctx context.Context, login func(context.Context) error) error // may be nil
	timeouts Timeouts
	outage   time.Duration
	outages  *outages

	turn chan struct{} // held by whoever logs in

	mu     sync.Mutex
	gen    int       // counts logins that succeeded
	logins int       // counts all of them
	failed error     // what came of the last one
	key    string    // of the session
	former []string  // Cookie headers of sessions before it, which may be alive
	used   time.Time // when the last call ended
}

// RoundTrip implements soap.RoundTripper.
func (s *session) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return s.call(ctx, kindOf(req), func(ctx context.Context) error { return s.exchange(ctx, req, res) })
}

// exchange sends req once and reads the answer into res.
func (s *session) exchange(ctx context.Context, req, res soap.HasFault) error {
	reset(res)
	if err := s.soap.RoundTrip(ctx, req, res); err != nil {
		return err
	}
	if body, ok := res.(*methods.RetrievePropertiesExBody); ok && body.Res != nil && body.Res.Returnval != nil {
		return unauthenticated(body.Res.Returnval.Objects)
	}
	return nil
}

// call makes a call of kind k by once, as often as the kind allows and the
// outage takes.
func (s *session) call(ctx context.Context, k kind, once func(context.Context) error) error {
	p := persistence{kind: k, budget: s.outage, known: s.known, outages: s.outages}
	return p.run(ctx, func() error {
		gen := s.generation()
		err := s.attempt(ctx, k, once)
		if !isFault(err, "NotAuthenticated") || k.method == "Logout" {
			return err
		}
		if err := s.renew(ctx, gen); err != nil {
			return &beforehand{err}
		}
		return s.attempt(ctx, k, once)
	})
}

// attempt makes a call once, in the time that its kind has.
func (s *session) attempt(ctx context.Context, k kind, once func(context.Context) error) error {
	limit := k.limit(s.timeouts)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	call := limited
	if k.fresh || k.repeat.once() {
		call = context.WithValue(limited, freshKey{}, true)
	}
	err := once(call)
	s.mu.Lock()
	s.used = time.Now()
	s.mu.Unlock()
	if outcomeOf(err, true) != answered {
		s.soap.CloseIdleConnections() // they are as dead, and the next attempt should not have to find out
	}
	if err != nil && faultOf(err) == nil && limited.Err() != nil && ctx.Err() == nil {
		var w *wireError
		return &noAnswer{host: s.soap.URL().Host, method: k.method, after: limit, sent: !errors.As(err, &w) || w.sent}
	}
	return err
}

// post sends req and puts the answer as it came into a buffer, for who decodes it
// elsewhere. Refusals are errors as RoundTrip gives them.
func (s *session) post(ctx context.Context, req soap.HasFault, into *bytes.Buffer) error {
	body, err := xml.Marshal(soap.Envelope{Body: req})
	if err != nil {
		return err
	}
	k := kindOf(req)
	k.limit = func(t Timeouts) time.Duration { return t.Inventory } // an answer that is worth decoding elsewhere is a large one
	return s.call(ctx, k, func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.soap.URL().String(), bytes.NewReader(append([]byte(xml.Header), body...)))
		if err != nil {
			return err
		}
		r.GetBody = nil // to send it again is for the call's kind to decide
		r.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
		r.Header.Set("SOAPAction", s.soap.Namespace+"/"+s.soap.Version)
		return s.soap.Do(ctx, r, func(answer *http.Response) error {
			into.Reset()
			if _, err := into.ReadFrom(answer.Body); err != nil {
				return err
			}
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			return s.refusal(answer, into.Bytes())
		})
	})
}

// refusal is the error that an answer other than 200 stands for.
func (s *session) refusal(answer *http.Response, raw []byte) error {
	var res methods.RetrievePropertiesExBody
	if answer.StatusCode == http.StatusInternalServerError && s.decode(raw, &res) == nil && res.Fault_ != nil {
		return soap.WrapSoapFault(res.Fault_)
	}
	return fmt.Errorf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode)) // its own words are the service's
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

// known says that a login has succeeded at that address before.
func (s *session) known() bool { return s.generation() > 0 }

// renew logs in unless somebody has since generation gen. Of all who need it at
// a time one tries; a failure is the failure of all.
func (s *session) renew(ctx context.Context, gen int) error {
	s.mu.Lock()
	logins := s.logins
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	current, others, failed := s.gen, s.logins, s.failed
	s.mu.Unlock()
	switch {
	case current != gen:
		return nil
	case others != logins && failed != nil:
		return failed
	}
	return s.login(ctx)
}

// login opens a session, by one attempt. Its cookie is kept by the HTTP
// client's jar. Once a password was refused there is no further attempt: a few
// of them lock the account (F-INV-5).
func (s *session) login(ctx context.Context) error {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if errors.Is(failed, ErrLogin) {
		return failed
	}
	key := ""
	try := func(ctx context.Context) (err error) {
		if ctx.Err() != nil { // the turn came too late
			return loginError(s.user, s.soap.URL().Host, ctx.Err())
		}
		// Not given up half-way: nobody could log out a session that was not heard of.
		late, cancel := bounded(ctx, grace)
		defer cancel()
		key, err = s.tryLogin(late)
		return err
	}
	gate := s.gate
	if gate == nil {
		gate = func(ctx context.Context, login func(context.Context) error) error { return login(ctx) }
	}
	err := gate(ctx, try)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins++
	if s.failed = err; err != nil {
		return err
	}
	s.gen++
	s.key = key
	return nil
}

// tryLogin sends the credentials and returns the key of the session.
func (s *session) tryLogin(ctx context.Context) (key string, err error) {
	req := methods.LoginBody{Req: &types.Login{
		This:     *s.vim.ServiceContent.SessionManager,
		UserName: s.user,
		Password: s.password,
		Locale:   "en_US",
	}}
	s.dropCookie()
	var res methods.LoginBody
	err = s.attempt(ctx, kindOf(&req), func(ctx context.Context) error { return s.exchange(ctx, &req, &res) })
	if err != nil {
		return "", loginError(s.user, s.soap.URL().Host, err)
	}
	return res.Res.Returnval.Key, nil
}

// loginError is translate with the meaning that faults have at a login: a
// service whose single sign-on has not come up yet has no better word for that
// than SystemError (F-NET-2).
func loginError(user, host string, err error) error {
	err = translate("log in as "+user+" at "+host, "", err)
	var e *Error
	if errors.As(err, &e) && e.Kind == nil && isFault(err, "SystemError", "NotSupported", "HostConnectFault") {
		e.Kind, e.Hint = ErrUnreachable, "its services may still be starting: try again later"
	}
	return err
}

// open connects and logs in, and repeats that within the budget for as long as
// there is no answer.
func (s *session) open(ctx context.Context, budget time.Duration) error {
	p := persistence{kind: kinds["Login"], budget: budget, known: s.known, outages: s.outages}
	p.kind.method = "Login"
	return p.run(ctx, func() error {
		if s.vim.ServiceContent.SessionManager == nil {
			if err := s.greet(ctx); err != nil {
				return err
			}
		}
		return s.login(ctx)
	})
}

// greet asks the service what it is, which needs no login.
func (s *session) greet(ctx context.Context) error {
	req := methods.RetrieveServiceContentBody{Req: &types.RetrieveServiceContent{This: vim25.ServiceInstance}}
	var res methods.RetrieveServiceContentBody
	err := s.attempt(ctx, kindOf(&req), func(ctx context.Context) error { return s.exchange(ctx, &req, &res) })
	if err == nil && res.Res.Returnval.SessionManager == nil {
		err = errors.New("the service has no session manager")
	}
	if err != nil {
		op := "connect to " + s.soap.URL().Host
		if errors.As(err, new(*CertificateError)) {
			op = "connect" // the error names the host
		}
		return strange(translate(op, "", err))
	}
	s.vim.ServiceContent = res.Res.Returnval
	return nil
}

// strange makes an [ErrNotVSphere] of the error of a greeting to which something
// has answered, but not as vSphere does.
func strange(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Kind != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, new(*CertificateError)) {
		return err
	}
	e.Kind = ErrNotVSphere
	if e.Hint == "" {
		e.Hint = "is this the address of a vCenter or ESXi host, and does its service run?"
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
		_ = panics.Catch(func() error { // its failure shows at the next call that matters
			_, err := methods.GetCurrentTime(call, s)
			return err
		})
	}
	whenIdle(ctx, idle, used, touch)
}

// whenIdle calls touch whenever the time since used has reached idle, and at
// most once in that time.
func whenIdle(ctx context.Context, idle time.Duration, used func() time.Time, touch func(context.Context)) {
	for wait := idle; sleep.For(ctx, wait) == nil; {
		if wait = idle - time.Since(used()); wait <= 0 {
			touch(ctx)
			wait = idle
		}
	}
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

// reset clears what a failed call left in res.
func reset(res soap.HasFault) { reflect.ValueOf(res).Elem().SetZero() }

// callerKey holds the context that a bounded one was made of.
type callerKey struct{}

// bounded returns a context that ends d after ctx has ended, and carries its
// values. Calls that change something at the other end run under it, so that
// they are not abandoned half-way: whoever makes one learns what came of it,
// and can undo it (F-NFC-17).
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return sleep.Outlasting(context.WithValue(ctx, callerKey{}, ctx), d)
}

// callerOf is the context that a bounded one was made of, whose end means that
// nothing new is to be started; ctx itself where it is another.
func callerOf(ctx context.Context) context.Context {
	if caller, ok := ctx.Value(callerKey{}).(context.Context); ok {
		return caller
	}
	return ctx
}
