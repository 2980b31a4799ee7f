package vsphere_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// villain is a vCenter that means harm: it passes calls on to a lab, but answers some
// of them in its own way.
type villain struct {
	*httptest.Server
	answer  atomic.Pointer[func(w http.ResponseWriter, body string) bool] // true: it has answered
	rewrite atomic.Pointer[func(string) string]                           // of the lab's answers
	other   atomic.Pointer[tls.Certificate]                               // that new connections are shown
	heard   atomic.Int32                                                  // requests
}

func newVillain(t *testing.T, lab *vspheretest.Server) *villain {
	t.Helper()
	v := &villain{}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: lab.URL().Host})
	pass.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the lab's
	t.Cleanup(pass.Transport.(*http.Transport).CloseIdleConnections)
	pass.ModifyResponse = func(r *http.Response) error {
		change := v.rewrite.Load()
		if change == nil {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = []byte((*change)(string(body)))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Del("Content-Length")
		return nil
	}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.heard.Add(1)
		body, _ := io.ReadAll(r.Body)
		if answer := v.answer.Load(); answer != nil && (*answer)(w, string(body)) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		pass.ServeHTTP(w, r)
	}))
	v.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if other := v.other.Load(); other != nil {
			return &tls.Config{Certificates: []tls.Certificate{*other}}, nil
		}
		return nil, nil
	}}
	v.StartTLS()
	t.Cleanup(v.Close)
	return v
}

func (v *villain) answers(f func(w http.ResponseWriter, body string) bool) { v.answer.Store(&f) }
func (v *villain) rewrites(f func(string) string)                          { v.rewrite.Store(&f) }

// config is the lab's with the villain's address and certificate.
func (v *villain) config(t *testing.T, lab *vspheretest.Server) vsphere.Config {
	t.Helper()
	cfg := labConfig(t, lab)
	u, err := url.Parse(v.URL)
	if err != nil {
		t.Fatal(err)
	}
	cfg.URL = &url.URL{Scheme: "https", Host: u.Host, Path: "/sdk"}
	sum := sha256.Sum256(v.Certificate().Raw)
	cfg.Thumbprint, cfg.Outage = hex.EncodeToString(sum[:]), -1
	return cfg
}

func oneVM(t *testing.T) *vspheretest.Server {
	return startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}}})
}

var deviceURL = regexp.MustCompile(`https://[^/<]*/nfc/`)

func TestALeaseThatLeadsSomewhereElseThanToVSphereIsRefusedAndGivenBack(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{
		"a cloud's metadata":           "169.254.169.254",
		"the same, as IPv6 writes it":  "[::ffff:169.254.169.254]",
		"the same, behind NAT64":       "[64:ff9b::a9fe:a9fe]",
		"another cloud's metadata":     "[fd00:ec2::254]",
		"a neighbour on the link":      "[fe80::1]",
		"everybody":                    "224.0.0.1",
		"nobody's host":                "203.0.113.7",
		"nobody's host, with a port":   "203.0.113.7:8443",
		"a host with a name of others": "internal.example.invalid",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := oneVM(t)
			v := newVillain(t, lab)
			c := dial(t, v.config(t, lab))
			vm := find(t, c, "guest1")
			v.rewrites(func(body string) string { return deviceURL.ReplaceAllString(body, "https://"+host+"/nfc/") })
			l, err := c.OpenLease(t.Context(), vsphere.Target{VM: vm})
			var refused *vsphere.AddressError
			if l != nil || !errors.As(err, &refused) || !fault.IsPermanent(err) {
				t.Fatalf("the lease is %v, error %v", l, err)
			}
			for _, l := range lab.Leases() {
				if l.State == "ready" || l.State == "initializing" {
					t.Errorf("a lease is left: %+v", l)
				}
			}
		})
	}
}

func TestALeaseMayNameAHostOfTheVMsByAnyOfItsNames(t *testing.T) {
	t.Parallel()
	lab := oneVM(t)
	v := newVillain(t, lab)
	c := dial(t, v.config(t, lab))
	vm := find(t, c, "guest1")
	v.rewrites(func(body string) string {
		return deviceURL.ReplaceAllStringFunc(body, func(u string) string { return strings.Replace(u, "127.0.0.1", "localhost", 1) })
	})
	l := open(t, c, vsphere.Target{VM: vm})
	if host := l.Items()[0].Host; !strings.HasPrefix(host, "localhost:") {
		t.Errorf("it leads to %s", host)
	}
}

func TestARedirectOfTheServiceIsFollowedNowhere(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(other.Close)
	for _, code := range []int{301, 302, 303, 307, 308} {
		lab := oneVM(t)
		v := newVillain(t, lab)
		redirect := func(w http.ResponseWriter, _ string) bool {
			w.Header().Set("Location", other.URL+"/sdk")
			w.WriteHeader(code)
			return true
		}
		cfg := v.config(t, lab)
		c := dial(t, cfg)
		v.answers(redirect)
		if _, err := c.List(t.Context()); err == nil {
			t.Errorf("%d: the inventory was listed", code)
		}
		if _, err := vsphere.Dial(t.Context(), cfg); err == nil {
			t.Errorf("%d: a session was opened", code)
		}
		v.answers(func(http.ResponseWriter, string) bool { return false })
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("somebody else was asked %d times", n)
	}
}

// answers of a service that wants memory, or never to end.
var endless = map[string]func(w io.Writer){
	"an endless text": func(w io.Writer) {
		pour(w, `<Envelope><Body><x>`, strings.Repeat(" ", 1<<16))
	},
	"endless elements": func(w io.Writer) {
		pour(w, `<Envelope><Body>`, strings.Repeat("<a/>", 1<<14))
	},
	"elements in elements": func(w io.Writer) {
		pour(w, `<Envelope><Body>`, strings.Repeat("<a>", 1<<14))
	},
	"a tree of snapshots without end": func(w io.Writer) {
		pour(w, `<Envelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Body><RetrievePropertiesExResponse><returnval><objects><obj type="VirtualMachine">vm-1</obj>`+
			`<propSet><name>snapshot</name><val xsi:type="VirtualMachineSnapshotInfo"><rootSnapshotList>`, strings.Repeat("<childSnapshotList>", 1<<12))
	},
}

// pour writes head, and then text until nobody reads it any more.
func pour(w io.Writer, head, text string) {
	_, err := io.WriteString(w, head)
	for err == nil {
		_, err = io.WriteString(w, text)
	}
}

func TestAnAnswerWithoutEndIsNotReadOn(t *testing.T) {
	t.Parallel()
	lab := oneVM(t)
	for name, answer := range endless {
		v := newVillain(t, lab)
		cfg := v.config(t, lab)
		c := dial(t, cfg)
		v.answers(func(w http.ResponseWriter, body string) bool {
			if strings.Contains(body, "Logout") {
				return false
			}
			answer(w)
			return true
		})
		if _, err := vsphere.Dial(t.Context(), cfg); err == nil {
			t.Errorf("%s: a session was opened", name)
		}
		if _, err := c.List(t.Context()); err == nil { // by our own decoder
			t.Errorf("%s: the inventory was listed", name)
		}
		if _, err := c.OpenLease(t.Context(), vsphere.Target{VM: vsphere.VM{Ref: "vm-1"}}); err == nil {
			t.Errorf("%s: a lease was opened", name)
		}
	}
}

func TestHeadersWithoutEndAreNotReadOn(t *testing.T) {
	t.Parallel()
	lab := oneVM(t)
	v := newVillain(t, lab)
	v.answers(func(w http.ResponseWriter, _ string) bool {
		w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		return true
	})
	if _, err := vsphere.Dial(t.Context(), v.config(t, lab)); err == nil || len(err.Error()) > 1000 {
		t.Errorf("error %v", err)
	}
}

func TestAnotherCertificateInTheMiddleOfASessionEndsItBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	lab := oneVM(t)
	v := newVillain(t, lab)
	cfg := v.config(t, lab)
	cfg.Outage = 0 // a call that meets the connection's end is made again
	c, err := vsphere.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	other := selfSigned(t)
	v.other.Store(&other)
	v.CloseClientConnections()
	before := v.heard.Load()
	_, err = c.List(t.Context())
	var cert *vsphere.CertificateError
	if !errors.As(err, &cert) || !errors.Is(err, vsphere.ErrThumbprint) {
		t.Errorf("error %v", err)
	}
	if err := c.Close(t.Context()); err == nil {
		t.Error("it was logged out")
	}
	if n := v.heard.Load() - before; n > 0 {
		t.Errorf("%d requests were sent to whoever it is", n)
	}
}

func TestWhatAHostileServiceSaysIsBoundedAndNothingThatATerminalActsUpon(t *testing.T) {
	t.Parallel()
	lab := oneVM(t)
	v := newVillain(t, lab)
	cfg := v.config(t, lab)
	c := dial(t, cfg)
	text := "&#x9b;2J\u202egpj\u2066&#10;" + strings.Repeat("all work and no play ", 1<<15)
	v.answers(func(w http.ResponseWriter, body string) bool {
		if strings.Contains(body, "Logout") {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `<Envelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Body><Fault><faultcode>ServerFaultCode</faultcode><faultstring>`+text+
			`</faultstring><detail><SystemErrorFault xsi:type="SystemError"><reason>`+text+`</reason></SystemErrorFault></detail></Fault></Body></Envelope>`)
		return true
	})
	_, dialErr := vsphere.Dial(t.Context(), cfg)
	_, listErr := c.List(t.Context())
	_, leaseErr := c.OpenLease(t.Context(), vsphere.Target{VM: vsphere.VM{Ref: "vm-1", Path: "/DC0/vm/guest1"}})
	for what, err := range map[string]error{"dial": dialErr, "list": listErr, "lease": leaseErr} {
		if err == nil {
			t.Errorf("%s succeeded", what)
			continue
		}
		got := err.Error()
		if len(got) > 5000 || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("%s: %d bytes: %.300q", what, len(got), got)
		}
	}
}

var ticketHost = regexp.MustCompile(`<host>[^<]*</host>`)

func TestATicketForAHostThatIsNoneOfVSpheresIsNotUsed(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"169.254.169.254", "203.0.113.7", "[fe80::1]"} {
		lab, _ := frozenLab(t, vspheretest.Config{})
		v := newVillain(t, lab)
		c := dial(t, v.config(t, lab))
		vm := find(t, c, "guest1")
		v.rewrites(func(body string) string {
			if !strings.Contains(body, "sessionId") {
				return body
			}
			return ticketHost.ReplaceAllString(body, "<host>"+host+"</host>")
		})
		_, err := readFrozen(t, c, vsphere.Target{VM: vm})
		var refused *vsphere.AddressError
		if !errors.As(err, &refused) || !fault.IsPermanent(err) {
			t.Errorf("%s: %v", host, err)
		}
	}
}
