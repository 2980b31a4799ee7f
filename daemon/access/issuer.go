package access

import (
	"errors"
	"net"
	"net/url"
)

// CheckIssuer refuses what cannot be the URL of an identity provider, with what is
// wrong: it must be https, since whoever can change the provider's keys on their
// way is let in with any role. Only on this machine's loopback it may be http.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return errors.New("must be the URL of the identity provider, as https://idp.example.com/realms/prod")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("must hold neither user, query nor fragment")
	case u.Scheme != "https" && !isPlainLoopback(u):
		return errors.New("must begin with https://")
	}
	return nil
}

// isPlainLoopback reports whether a URL is http on an address of this machine's
// loopback.
func isPlainLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && ip != nil && ip.IsLoopback()
}

// isSafe reports whether what is said to an address that the issuer names stays between
// it and us.
func isSafe(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Hostname() != "" && (u.Scheme == "https" || isPlainLoopback(u))
}
