package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// errExposed refuses to serve others as long as there is no access control.
var errExposed = errors.New("the API has no access control, so that whoever reaches it could export VMs with the daemon's credentials; " +
	"listen on localhost and reach it through an SSH tunnel, or give -insecure-listen")

// listen returns the socket that systemd passed, or listens on addr. Unless
// exposed is set, it refuses anything that is not on this machine alone.
func listen(ctx context.Context, addr string, exposed bool) (net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets passed by systemd: %w", err)
	}
	if len(passed) > 0 && passed[0] != nil {
		for _, l := range passed[1:] {
			if l != nil {
				_ = l.Close()
			}
		}
		if !exposed && !local(passed[0].Addr()) {
			_ = passed[0].Close()
			return nil, fmt.Errorf("the socket passed by systemd is not loopback: %w", errExposed)
		}
		return passed[0], nil
	}
	if !exposed {
		if err := checkLoopback(ctx, addr); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("address %s is in use: is another hyper2kvmd running? Choose another with -addr", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("address %s: %w; choose another with -addr", addr, err)
	}
	return l, nil
}

// checkLoopback looks up addr and refuses it unless all it stands for is
// loopback.
func checkLoopback(ctx context.Context, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %s: want HOST:PORT", addr)
	}
	if host == "" {
		return fmt.Errorf("address %s is every address of this machine: %w", addr, errExposed)
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return fmt.Errorf("address %s: %w", addr, err)
	}
	for _, ip := range ips {
		if !ip.IP.IsLoopback() {
			return fmt.Errorf("address %s is not loopback: %w", addr, errExposed)
		}
	}
	return nil
}

// local reports whether only this machine can reach a.
func local(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// hostOf is the host of an address, under which clients may ask for it.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return host
}
