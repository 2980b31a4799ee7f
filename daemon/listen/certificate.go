package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// lookAgain is how long what was read of the files is believed.
	lookAgain = 2 * time.Second
	// expiresSoon is how long before its end a certificate is warned of.
	expiresSoon = 30 * 24 * time.Hour
)

// Files are where the daemon's certificate comes from, in PEM.
type Files struct {
	Cert     string // the server's certificate, and those between it and its authority
	Key      string // its key; others must not be able to read the file
	ClientCA string // authorities of client certificates; empty asks for none
}

// certificates are a daemon's certificate and what it believes of clients, read
// again when the files have changed.
type certificates struct {
	files Files
	log   *slog.Logger
	now   func() time.Time
	told  rate.Sometimes // handshakes that failed

	mu      sync.Mutex
	config  *tls.Config
	leaf    *x509.Certificate
	seen    []fs.FileInfo // the files as they were when last read
	looked  time.Time     // when the files were last looked at
	trouble error         // of the last reading
	warned  time.Time     // of the certificate's end
}

// newCertificates reads the files. A certificate that has expired is no error: the
// unix socket is of use without it.
func newCertificates(f Files, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: f, log: log, now: time.Now, told: rate.Sometimes{First: 5, Interval: 10 * time.Second}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read(c.now()) != nil {
		return nil, settings("TLS: %w", c.trouble)
	}
	c.warn(c.now())
	return c, nil
}

// server is the configuration of a connection's TLS.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
	}
}

// current is the configuration for a handshake now.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look(c.now())
	return c.config
}

// names reports whether the certificate is for this host.
func (c *certificates) names(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaf.VerifyHostname(host) == nil
}

// reload reads the files now.
func (c *certificates) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.read(c.now())
	if err == nil {
		c.log.Info("the certificate was read again", "names", names(c.leaf), "expires", c.leaf.NotAfter.Format(time.RFC3339))
	}
	c.warn(c.now())
	return err
}

// state is the certificate in use now.
func (c *certificates) state() Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look(c.now())
	return Certificate{NotAfter: c.leaf.NotAfter, Trouble: c.trouble}
}

// look reads the files when they have changed since they were read, or could not be
// used then, and some time has passed.
func (c *certificates) look(now time.Time) {
	if now.Sub(c.looked) < lookAgain && !now.Before(c.looked) {
		return
	}
	c.looked = now
	before := c.trouble
	if before != nil || !slices.EqualFunc(c.stat(), c.seen, sameState) {
		switch err := c.read(now); {
		case err == nil:
			c.log.Info("a changed certificate is in use", "names", names(c.leaf), "expires", c.leaf.NotAfter.Format(time.RFC3339))
		case before == nil || before.Error() != err.Error():
			c.log.Error("the changed certificate cannot be used; the earlier one stays in use", "error", err)
		}
	}
	c.warn(now)
}

// stat looks at the files. Those that are not there are nil.
func (c *certificates) stat() []fs.FileInfo {
	var all []fs.FileInfo
	for _, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if path != "" {
			info, _ := os.Stat(path) // reading it gives the error
			all = append(all, info)
		}
	}
	return all
}

func sameState(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// read reads the files and takes what is in them, if that can be used. What is
// wrong is kept in trouble, too.
func (c *certificates) read(now time.Time) error {
	c.seen, c.looked = c.stat(), now // before: a file that changes meanwhile is read again
	config, leaf, err := c.files.load()
	// A certificate that is not valid is no reason to give one up that is.
	if err == nil && c.leaf != nil && valid(leaf, now) != nil && valid(c.leaf, now) == nil {
		err = fmt.Errorf("%s: %w", c.files.Cert, valid(leaf, now))
	}
	if c.trouble = err; err != nil {
		return err
	}
	c.config, c.leaf = config, leaf
	return nil
}

// warn tells once a day that the certificate expires.
func (c *certificates) warn(now time.Time) {
	err := expiry(c.leaf, now)
	if err == nil || now.Sub(c.warned) < 24*time.Hour {
		return
	}
	c.warned = now
	c.log.Warn("the certificate must be renewed", "file", c.files.Cert, "error", err)
}

// load reads the files.
func (f Files) load() (*tls.Config, *x509.Certificate, error) {
	if f.Cert == "" || f.Key == "" {
		return nil, nil, errors.New("a certificate needs its key, and a client's authority a certificate: set listen.cert_file and listen.key_file both")
	}
	info, err := os.Stat(f.Key)
	if err != nil {
		return nil, nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, nil, fmt.Errorf("key file %s: its mode is %04o, so that everybody can read it; make it 0600", f.Key, info.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	if u := pair.Leaf.ExtKeyUsage; len(u) > 0 && !slices.Contains(u, x509.ExtKeyUsageServerAuth) && !slices.Contains(u, x509.ExtKeyUsageAny) {
		return nil, nil, fmt.Errorf("certificate %s is not for a server", f.Cert)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"},
		// A ticket would let a client go on for whom the authority is gone.
		SessionTicketsDisabled: true,
	}
	if f.ClientCA != "" {
		pem, err := os.ReadFile(f.ClientCA)
		if err != nil {
			return nil, nil, fmt.Errorf("client_ca: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("client_ca: %s holds no certificate in PEM", f.ClientCA)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, pair.Leaf, nil
}

// valid wants now to be within the certificate's time.
func valid(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate has expired on %s", leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", leaf.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// expiry is [valid], and a certificate that will soon not be.
func expiry(leaf *x509.Certificate, now time.Time) error {
	if err := valid(leaf, now); err != nil {
		return err
	}
	if left := leaf.NotAfter.Sub(now); left < expiresSoon {
		return fmt.Errorf("the certificate expires in %d days, on %s: renew it", int(left/(24*time.Hour)), leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// names are the hosts that a certificate is for.
func names(leaf *x509.Certificate) []string {
	all := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}
