package listen_test

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
)

func wantSettingsError(t *testing.T, err error, text string) {
	t.Helper()
	var settings *listen.SettingsError
	if !errors.As(err, &settings) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want %q in a SettingsError", err, text)
	}
}

func TestAnAddressThatOthersReachNeedsTLS(t *testing.T) {
	t.Parallel()
	addrs := []string{"0.0.0.0:0", ":0", "[::]:0", "http://0.0.0.0:0", "[::ffff:0.0.0.0]:0"}
	if others := addressOfOthers(t); others != "" {
		addrs = append(addrs, net.JoinHostPort(others, "0"))
	}
	for _, a := range addrs {
		_, err := listen.Open(t.Context(), listen.Options{Addrs: []string{a}})
		wantSettingsError(t, err, "set listen.cert_file and listen.key_file (hyper2kvmd tls init makes them)")
	}
	// With a certificate, it is still not served in the clear when that is asked for.
	_, err := listen.Open(t.Context(), listen.Options{TLS: newAuthority(t).files(), Addrs: []string{"http://0.0.0.0:0"}})
	wantSettingsError(t, err, "needs TLS")
	_, err = listen.Open(t.Context(), listen.Options{Addrs: []string{"https://127.0.0.1:0"}})
	wantSettingsError(t, err, "needs a certificate")
	for _, a := range []string{"", "8080", "localhost", "localhost:", "localhost:http-ish", "ftp://localhost:80", "http://u:p@localhost:80", "localhost:80/path", "localhost:99999"} {
		_, err := listen.Open(t.Context(), listen.Options{Addrs: []string{a}})
		wantSettingsError(t, err, "want HOST:PORT")
	}
}

// addressOfOthers is an address of this machine that is not loopback, if it has one.
func addressOfOthers(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

func TestSeveralAddressesAreServedAtOnce(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Socket: socketPath(t), Addrs: []string{"http://127.0.0.1:0", "127.0.0.1:0"}, TLS: a.files()})
	if got := d.asks(d.visit("unix", nil)); !got.Unix || got.Loopback {
		t.Errorf("over the socket: %+v", got)
	}
	if got := d.asks(d.visit("http", nil)); got.Unix || !got.Loopback || got.Addr != "127.0.0.1" {
		t.Errorf("over http: %+v", got)
	}
	if got := d.asks(d.visit("https", a.trusts())); got.Unix || !got.Loopback || got.Addr != "127.0.0.1" {
		t.Errorf("over https: %+v", got)
	}
	if d.Exposed() != "" {
		t.Errorf("%s is taken for an address of others", d.Exposed())
	}
}

func TestAnAddressForOthersIsKnownAsOneAndItsClientsAreNotLocal(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"0.0.0.0:0"}, TLS: a.files()})
	if !strings.HasPrefix(d.Exposed(), "https://") {
		t.Errorf("exposed: %q", d.Exposed())
	}
	others := addressOfOthers(t)
	if others == "" { // this machine has loopback only
		return
	}
	config := a.trusts()
	config.ServerName = "localhost"
	v := d.visit("https", config)
	_, port, err := net.SplitHostPort(hostport(v.url))
	if err != nil {
		t.Fatal(err)
	}
	v.url = "https://" + net.JoinHostPort(others, port)
	if got := d.asks(v); got.Loopback || got.Addr != others {
		t.Errorf("from %s: %+v", others, got)
	}
}

func TestOnlyTheNamesOfTheDaemonAreKnown(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"0.0.0.0:0", "localhost:0"}, TLS: a.files(), AllowedHosts: []string{"Proxy.example.com"}})
	for host, want := range map[string]bool{
		"export.example.com": true, "EXPORT.example.com": true, "proxy.example.com": true, "localhost": true, "127.0.0.1": true,
		"evil.example.com": false, "0.0.0.0": false, "": false, "10.1.2.3": false, "export.example.com.evil.example": false, "*": false,
	} {
		if got := d.KnownHost(host); got != want {
			t.Errorf("%q is known: %v", host, got)
		}
	}
}

func TestAnAddressInUseIsSaidToBe(t *testing.T) {
	t.Parallel()
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}})
	_, err := listen.Open(t.Context(), listen.Options{Socket: socketPath(t), Addrs: []string{hostport(d.url("http"))}})
	if err == nil || !strings.Contains(err.Error(), "is in use: is another hyper2kvmd running?") {
		t.Error(err)
	}
}

func TestBothAddressesOfLocalhostAreTheDaemons(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		return // without IPv6 there is one only
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// Who takes the other address before the daemon does is told of.
	squatter, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(squatter.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	said := newLockedBuffer()
	d, err := listen.Open(t.Context(), listen.Options{Addrs: []string{"localhost:" + port}, Logger: slog.New(slog.NewTextHandler(said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if log := said.String(); len(d.URLs()) != 1 || !strings.Contains(log, "another program listens on the other address of localhost") || !strings.Contains(log, "[::1]:"+port) {
		t.Errorf("%v: %s", d.URLs(), log)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := squatter.Close(); err != nil {
		t.Fatal(err)
	}
	both := start(t, listen.Options{Addrs: []string{"localhost:" + port}})
	if len(both.URLs()) != 2 || both.Exposed() != "" {
		t.Errorf("the daemon listens on %v", both.URLs())
	}
	for _, u := range both.URLs() {
		v := both.visit("http", nil)
		v.url = u
		if got := both.asks(v); !got.Loopback {
			t.Errorf("%s: %+v", u, got)
		}
	}
}
