package vsphere

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

func TestAddressesAreToldApartByWhoCanBeThere(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]class{
		"10.1.2.3": network, "192.168.0.1": network, "203.0.113.9": network, "2001:db8::1": network, "fd12::1": network, "::ffff:10.0.0.1": network,
		"127.0.0.1": loopback, "127.8.9.10": loopback, "::1": loopback, "::ffff:127.0.0.1": loopback, "0.0.0.0": loopback, "::": loopback, "64:ff9b::7f00:1": loopback,
		"169.254.169.254": link, "169.254.0.1": link, "fe80::1": link, "fe80::1%eth0": link, "::ffff:169.254.169.254": link, "64:ff9b::a9fe:a9fe": link,
		"fd00:ec2::254": link, "100.100.100.200": link,
		"224.0.0.1": nowhere, "ff02::1": nowhere, "255.255.255.255": nowhere,
	} {
		if got := classOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is of class %d, want %d", address, got, want)
		}
		if got := classOfName(address); got != want {
			t.Errorf("%s, as a name, is of class %d, want %d", address, got, want)
		}
	}
	for name, want := range map[string]class{"localhost": loopback, "LOCALHOST.": loopback, "x.localhost": loopback, "esx1.example.com": network, "": network} {
		if got := classOfName(name); got != want {
			t.Errorf("%q is of class %d, want %d", name, got, want)
		}
	}
}

// port listens on loopback and counts who comes.
func port(t *testing.T) (addr, number string, came chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came = make(chan struct{}, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	_, number, _ = net.SplitHostPort(l.Addr().String())
	return l.Addr().String(), number, came
}

func TestAHostThatVSphereNamesIsNotLookedForOnThisMachine(t *testing.T) {
	t.Parallel()
	addr, number, came := port(t)
	r := &reach{}
	for _, target := range []string{addr, "localhost:" + number, "0.0.0.0:" + number, "[::ffff:127.0.0.1]:" + number} {
		conn, err := r.host(t.Context(), "tcp", target)
		var refused *AddressError
		if conn != nil || !errors.As(err, &refused) || !fault.IsPermanent(err) {
			t.Errorf("%s: %v", target, err)
		}
	}
	if len(came) > 0 {
		t.Error("somebody came")
	}
	// The service itself is there, as a lab is.
	conn, err := r.service(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if conn, err = r.host(t.Context(), "tcp", addr); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if r.near(link) || r.near(nowhere) {
		t.Error("this machine's link counts as this machine")
	}
}

func TestTheServiceIsConnectedToWhereItIsAllowedToBe(t *testing.T) {
	t.Parallel()
	addr, number, came := port(t)
	no := errors.New("not there")
	r := &reach{allow: func(a netip.Addr) error {
		if a.IsLoopback() {
			return no
		}
		return nil
	}}
	for _, target := range []string{addr, "localhost:" + number} {
		if _, err := r.service(t.Context(), "tcp", target); !errors.Is(err, no) {
			t.Errorf("%s: %v", target, err)
		}
	}
	if len(came) > 0 {
		t.Error("somebody came")
	}
	if r.where.Load() != 0 {
		t.Error("it counts as reached")
	}
}

func TestAProxyOnThisMachineIsUsed(t *testing.T) {
	t.Parallel()
	addr, _, _ := port(t)
	r := &reach{proxies: map[string]bool{addr: true}}
	conn, err := r.host(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	req, err := http.NewRequest(http.MethodGet, "https://127.0.0.1/", nil) // never by a proxy
	if err != nil {
		t.Fatal(err)
	}
	if u, err := r.proxy(req); u != nil || err != nil {
		t.Errorf("proxy %v, %v", u, err)
	}
}
