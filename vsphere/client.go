package vsphere

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// grace is how long a call that changes something may still take to answer
// once its caller has given up.
const grace = 1500 * time.Millisecond

// Client is a session at a vCenter or ESXi host. Every method may be called
// from any goroutine. Close it to log out: sessions are a scarce resource
// there (F-DS-4).
type Client struct {
	cfg     Config
	trust   *trust
	session *session
	reach   *reach
	log     *slog.Logger

	stop   context.CancelFunc // ends the keepalive
	idle   sync.WaitGroup     // the keepalive
	closed sync.Once
}

// Dial connects and logs in. For [Config.DialOutage] it waits for a service
// that gives no answer; what a person has to mend fails at once.
//
// Errors: [*CertificateError] when the certificate is not trusted,
// [ErrUnreachable], [ErrNotVSphere], [ErrLogin].
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.normalized()
	if err != nil {
		return nil, err
	}
	tr, err := newTrust(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, trust: tr, reach: &reach{allow: cfg.Allow}, log: cfg.Logger}
	if c.session, err = c.newSession(ctx); err != nil {
		return nil, err
	}
	if cfg.KeepAlive > 0 {
		// The keepalive lasts until Close, not until Dial's ctx ends.
		var alive context.Context
		alive, c.stop = context.WithCancel(context.WithoutCancel(ctx))
		c.idle.Go(func() { c.session.keepAlive(alive, cfg.KeepAlive) })
	}
	return c, nil
}

func (c *Client) newSession(ctx context.Context) (*session, error) {
	sc := soap.NewClient(c.cfg.URL, c.cfg.Insecure)
	t := sc.DefaultTransport()
	t.DialTLSContext = nil // govmomi's ignores ctx, and verifies by rules of its own
	t.Proxy, t.DialContext = c.reach.proxy, c.reach.service
	t.MaxResponseHeaderBytes = maxHeader
	t.TLSClientConfig = c.trust.tlsConfig(c.addr(), c.servicePin())
	t.MaxIdleConnsPerHost = 16
	sc.Transport = newWire(t)
	sc.UserAgent = "hyper2kvm"
	sc.Namespace, sc.Version = "urn:"+vim25.Namespace, vim25.Version

	s := &session{
		soap: sc, user: c.cfg.Username, password: c.cfg.Password, gate: c.cfg.Gate, turn: make(chan struct{}, 1),
		timeouts: c.cfg.Timeouts, outage: c.cfg.Outage,
		outages: &outages{host: c.cfg.URL.Host, tell: c.cfg.OnOutage, log: c.log},
	}
	s.vim = &vim25.Client{Client: sc, RoundTripper: s}
	if err := s.open(ctx, c.cfg.DialOutage); err != nil {
		sc.CloseIdleConnections()
		return nil, err
	}
	return s, nil
}

// addr is the service's host:port.
func (c *Client) addr() string {
	if c.cfg.URL.Scheme == "http" {
		return withPort(c.cfg.URL.Host, "80")
	}
	return withPort(c.cfg.URL.Host, "443")
}

// servicePin is what is expected of the service's own certificate.
func (c *Client) servicePin() expected {
	if c.cfg.Thumbprint == "" {
		return expected{}
	}
	p, _ := parseThumbprint(c.cfg.Thumbprint) // normalized has checked it
	return expected{pins: []thumbprint{p}, strict: true}
}

// Close logs out and closes the connections. It may be called again.
func (c *Client) Close(ctx context.Context) error {
	var err error
	c.closed.Do(func() {
		if c.stop != nil {
			c.stop()
			c.idle.Wait()
		}
		call, cancel := bounded(ctx, grace)
		defer cancel()
		err = translate("log out", "", c.session.logout(call))
		c.session.soap.CloseIdleConnections()
	})
	return err
}

// About describes the service.
func (c *Client) About() About {
	a := c.session.vim.ServiceContent.About
	return About{
		Name: a.Name, FullName: a.FullName, Version: a.Version, Build: a.Build,
		APIVersion: a.ApiVersion, InstanceUUID: a.InstanceUuid,
		Host: c.cfg.URL.Host, VCenter: c.isVCenter(),
	}
}

func (c *Client) isVCenter() bool {
	return c.session.vim.ServiceContent.About.ApiType == "VirtualCenter"
}

// vim is what govmomi's generated methods take.
func (c *Client) vim() soap.RoundTripper { return c.session }

// vmRef is the managed object reference of a VM.
func vmRef(ref string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachine", Value: ref}
}

// properties reads some properties of one object into dst, a pointer to a
// struct of package mo. Those that this user may not see stay zero.
func (c *Client) properties(ctx context.Context, obj types.ManagedObjectReference, paths []string, dst any) error {
	object, err := c.content(ctx, obj, paths)
	if err != nil {
		return err
	}
	object.MissingSet = nil
	return mo.LoadObjectContent([]types.ObjectContent{object}, dst)
}

// everyProperty is properties for those whose absence says something: one that
// this user may not see, or that cannot be read now, is an error.
func (c *Client) everyProperty(ctx context.Context, obj types.ManagedObjectReference, paths []string, dst any) error {
	object, err := c.content(ctx, obj, paths)
	if err != nil {
		return err
	}
	return mo.LoadObjectContent([]types.ObjectContent{object}, dst)
}

// content reads some properties of one object.
func (c *Client) content(ctx context.Context, obj types.ManagedObjectReference, paths []string) (types.ObjectContent, error) {
	res, err := methods.RetrievePropertiesEx(ctx, c.vim(), &types.RetrievePropertiesEx{
		This: c.session.vim.ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: obj}},
			PropSet:   []types.PropertySpec{{Type: obj.Type, PathSet: paths}},
		}},
	})
	if err != nil {
		return types.ObjectContent{}, err
	}
	if res.Returnval == nil || len(res.Returnval.Objects) == 0 {
		return types.ObjectContent{}, soap.WrapVimFault(&types.ManagedObjectNotFound{Obj: obj})
	}
	return res.Returnval.Objects[0], nil
}

// poll calls step until it is done or fails, first at once and then at growing
// distances. Nothing is kept at the other end in between, so it goes on after
// a session was renewed.
func poll(ctx context.Context, step func() (done bool, err error)) error {
	for wait := 10 * time.Millisecond; ; wait = min(wait*3/2, time.Second) {
		done, err := step()
		if done || err != nil {
			return err
		}
		if err := sleep.For(ctx, wait); err != nil {
			return err
		}
	}
}

// isFault says whether err holds one of the faults named.
func isFault(err error, names ...string) bool {
	name := faultName(err)
	for _, n := range names {
		if name == n && name != "" {
			return true
		}
	}
	return false
}
