package config

import "net"

// Metrics is where Prometheus finds the daemon's metrics beside GET /metrics of the
// API.
type Metrics struct {
	// Addr is a host:port of this machine's loopback, for a listener that answers
	// GET /metrics to whoever asks; empty is none.
	Addr string `yaml:"addr"`
}

func (m Metrics) validate(bad func(key, format string, args ...any)) {
	if m.Addr == "" {
		return
	}
	host, port, err := net.SplitHostPort(m.Addr)
	ip := net.ParseIP(host)
	switch {
	case err != nil || port == "" || !validPort(port) && port != "0":
		bad("metrics.addr", "must be host:port, such as localhost:9464")
	case host != "localhost" && (ip == nil || !ip.IsLoopback()):
		bad("metrics.addr", "must be on loopback, because it has no access control; from elsewhere GET /metrics of the API is read, with a token over TLS")
	}
}
