package pki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/pki"
)

func newDir(t *testing.T) pki.Dir {
	t.Helper()
	d := pki.Dir{Path: filepath.Join(t.TempDir(), "tls"), Now: time.Now()}
	made, err := d.Init("test authority", []string{"export.example.com", "*.example.org", "192.0.2.7", "2001:db8::7"})
	if err != nil || !made {
		t.Fatalf("%v, %v", made, err)
	}
	return d
}

// verify has a certificate judged as a client or server does.
func verify(t *testing.T, d pki.Dir, file, name string, use x509.ExtKeyUsage, at time.Time) error {
	t.Helper()
	root, err := d.Certificate("ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Certificate(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	_, err = c.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{use}, CurrentTime: at})
	return err
}

func TestAServersCertificateIsGoodForItsNamesAndForNothingElse(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	for _, name := range []string{"export.example.com", "a.example.org", "192.0.2.7", "2001:db8::7"} {
		if err := verify(t, d, "server.crt", name, x509.ExtKeyUsageServerAuth, d.Now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verify(t, d, "server.crt", "evil.example.com", x509.ExtKeyUsageServerAuth, d.Now) == nil {
		t.Error("it is good for another name")
	}
	if verify(t, d, "server.crt", "", x509.ExtKeyUsageClientAuth, d.Now) == nil {
		t.Error("it is good for a client")
	}
	if verify(t, d, "server.crt", "", x509.ExtKeyUsageServerAuth, d.Now.Add(826*24*time.Hour)) == nil {
		t.Error("it is good for longer than macOS believes")
	}
	pair, err := tls.LoadX509KeyPair(d.File("server.crt"), d.File("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Params().BitSize != 256 {
		t.Errorf("the key is %T", pair.PrivateKey)
	}
}

func TestAClientsCertificateIsGoodForAClientOnly(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	if err := d.Client("ops@example.com"); err != nil {
		t.Fatal(err)
	}
	if err := verify(t, d, "ops@example.com.crt", "", x509.ExtKeyUsageClientAuth, d.Now); err != nil {
		t.Error(err)
	}
	if verify(t, d, "ops@example.com.crt", "", x509.ExtKeyUsageServerAuth, d.Now) == nil {
		t.Error("it is good for a server")
	}
	if err := d.Client("ops@example.com"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same client again: %v", err)
	}
	for _, name := range []string{"ca", "server", "", "../x", "a/b", "a b", ".hidden", "-x", "ä", strings.Repeat("a", 65)} {
		if d.Client(name) == nil {
			t.Errorf("%q is the name of a client", name)
		}
	}
}

func TestKeysAreForTheirOwnerAndCertificatesForEverybody(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	for file, want := range map[string]fs.FileMode{"ca.key": 0o600, "server.key": 0o600, "ca.crt": 0o644, "server.crt": 0o644} {
		info, err := os.Stat(d.File(file))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	left, err := filepath.Glob(d.File("*.new*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// contents are all files of the directory.
func contents(t *testing.T, d pki.Dir) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if all[e.Name()], err = os.ReadFile(d.File(e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestNothingThatIsThereIsReplaced(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	before := contents(t, d)
	if _, err := d.Init("again", []string{"localhost"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("again: %v", err)
	}
	if err := os.Remove(d.File("server.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Init("again", []string{"localhost"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("with the key only: %v", err)
	}
	if err := os.Remove(d.File("server.key")); err != nil {
		t.Fatal(err)
	}
	made, err := d.Init("again", []string{"localhost"})
	if err != nil || made {
		t.Errorf("with an authority: made %v, %v", made, err)
	}
	after := contents(t, d)
	if !bytes.Equal(before["ca.crt"], after["ca.crt"]) || !bytes.Equal(before["ca.key"], after["ca.key"]) {
		t.Error("the authority has changed")
	}
	if err := verify(t, d, "server.crt", "localhost", x509.ExtKeyUsageServerAuth, d.Now); err != nil {
		t.Error(err)
	}
}

func TestWithoutTheAuthoritysKeyNothingIsSigned(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	key, err := os.ReadFile(d.File("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.File("ca.key")); err != nil {
		t.Fatal(err)
	}
	before := contents(t, d)
	for name, do := range map[string]func() error{
		"renew":  func() error { return d.Renew(nil) },
		"client": func() error { return d.Client("ops") },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "ca.key") || !strings.Contains(err.Error(), "put it back") {
			t.Errorf("%s: %v", name, err)
		}
	}
	another := newDir(t)
	wrong, err := os.ReadFile(another.File("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string][]byte{"another's": wrong, "half": key[:50], "empty": nil} {
		if err := os.WriteFile(d.File("ca.key"), k, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Renew(nil); err == nil {
			t.Errorf("%s key signs", name)
		}
	}
	if err := os.Remove(d.File("ca.key")); err != nil {
		t.Fatal(err)
	}
	if after := contents(t, d); !slices.Equal(before["server.crt"], after["server.crt"]) || len(after) != len(before) {
		t.Error("something has changed")
	}
}

func TestARenewedCertificateHasTheNamesOfTheOldOne(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	old, err := d.Certificate("server.crt")
	if err != nil {
		t.Fatal(err)
	}
	d.Now = d.Now.Add(700 * 24 * time.Hour)
	if err := d.Renew(nil); err != nil {
		t.Fatal(err)
	}
	c, err := d.Certificate("server.crt")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.DNSNames, old.DNSNames) || len(c.IPAddresses) != 2 || c.SerialNumber.Cmp(old.SerialNumber) == 0 || !c.NotAfter.After(old.NotAfter) {
		t.Errorf("%v %v until %v", c.DNSNames, c.IPAddresses, c.NotAfter)
	}
	if _, err := tls.LoadX509KeyPair(d.File("server.crt"), d.File("server.key")); err != nil {
		t.Error(err)
	}
	if err := d.Renew([]string{"new.example.com"}); err != nil {
		t.Fatal(err)
	}
	if err := verify(t, d, "server.crt", "new.example.com", x509.ExtKeyUsageServerAuth, d.Now); err != nil {
		t.Error(err)
	}
}

func TestNothingIsValidLongerThanItsAuthority(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	ca, err := d.Certificate("ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	d.Now = ca.NotAfter.Add(-24 * time.Hour)
	if err := d.Renew(nil); err != nil {
		t.Fatal(err)
	}
	if c, err := d.Certificate("server.crt"); err != nil || c.NotAfter.After(ca.NotAfter) {
		t.Errorf("until %v, the authority until %v, %v", c.NotAfter, ca.NotAfter, err)
	}
	d.Now = ca.NotAfter.Add(time.Hour)
	if err := d.Renew(nil); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("with an authority that has expired: %v", err)
	}
}

func TestWhatIsNoHostGetsNoCertificate(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "export.example.com", "*.example.com", "10.0.0.1", "::1", "xn--bcher-kva.example"} {
		if err := pki.CheckHost(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "*", "a.*.b", "https://a", "a:80", "[::1]", "a b", "a..b", "-a", "a-", "bücher.example", "a/b", strings.Repeat("a", 64), strings.Repeat("a.", 130) + "b", "a\nb"} {
		if pki.CheckHost(bad) == nil {
			t.Errorf("%q is a host", bad)
		}
		d := pki.Dir{Path: filepath.Join(t.TempDir(), "x"), Now: time.Now()}
		if _, err := d.Init("test", []string{bad}); err == nil {
			t.Errorf("%q gets a certificate", bad)
		}
		if _, err := os.Stat(d.Path); err == nil {
			t.Errorf("%q: a directory was made", bad)
		}
	}
}
