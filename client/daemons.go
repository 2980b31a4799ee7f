package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Daemons lists the daemons on the store of the one that is asked.
func (c *Client) Daemons(ctx context.Context) (models.Daemons, error) {
	var out models.Daemons
	err := c.do(ctx, request{method: http.MethodGet, path: "/daemons", out: &out})
	return out, err
}

// Drain has a daemon run no more jobs: it hands back what it runs, or with wait lets
// that end. It returns as soon as that is asked for. An unknown id is ErrNotFound.
func (c *Client) Drain(ctx context.Context, id string, wait bool) (models.Daemon, error) {
	var out models.Daemon
	err := c.postJSON(ctx, "/daemons/"+url.PathEscape(id)+"/drain", models.Drain{Wait: wait}, &out)
	return out, err
}

// ResumeDaemon has a daemon run jobs again that was drained. An unknown id is
// ErrNotFound.
func (c *Client) ResumeDaemon(ctx context.Context, id string) (models.Daemon, error) {
	var out models.Daemon
	err := c.do(ctx, request{method: http.MethodPost, path: "/daemons/" + url.PathEscape(id) + "/resume", out: &out})
	return out, err
}
