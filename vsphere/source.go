package vsphere

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// dataTransport makes the connections to one host. They speak HTTP/1.1, one
// transfer each: with HTTP/2 all "parallel" transfers would share one.
func (c *Client) dataTransport(addr string, x expected) *http.Transport {
	if addr == c.addr() && x.empty() {
		x = c.servicePin() // the service itself: an ESXi host, or /folder
	}
	var h1 http.Protocols
	h1.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  c.reach.proxy,
		DialContext:            c.reach.host,
		TLSClientConfig:        c.trust.tlsConfig(addr, x),
		TLSHandshakeTimeout:    20 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute, // a host may take its time to open a disk
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         256 << 10,
		Protocols:              &h1,
	}
}

// source reads u over t with the session's cookie.
func (c *Client) source(u *url.URL, t *http.Transport) *transfer.HTTPSource {
	return &transfer.HTTPSource{
		Client: &http.Client{
			Transport: t,
			// A redirect would take the cookie, and our trust, somewhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		URL:    u,
		Header: http.Header{"User-Agent": {"hyper2kvm"}},
		Prepare: func(r *http.Request) error {
			cookie := c.session.cookie()
			if cookie != "" && (r.URL.Scheme == "https" || c.cfg.URL.Scheme == "http") { // never in the clear
				r.Header.Set("Cookie", cookie)
			}
			return nil
		},
	}
}

// noSource is a Source of nothing.
type noSource struct{ err error }

func (s noSource) Probe(context.Context) (transfer.Info, error) { return transfer.Info{}, s.err }

func (s noSource) Open(context.Context, int64, int64) (io.ReadCloser, error) { return nil, s.err }
