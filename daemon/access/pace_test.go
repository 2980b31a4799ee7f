package access_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// burst makes requests at a time until one has to wait, and returns how many may be
// answered and for how long the next one has to wait.
func burst(p *access.Pace, who access.Principal, peer access.Peer, at time.Time) (n int, wait time.Duration) {
	for ; n < 10_000; n++ {
		if wait = p.Wait(who, peer, at); wait > 0 {
			break
		}
	}
	return n, wait
}

func TestEachTokenAndEachAddressHasAPaceOfItsOwn(t *testing.T) {
	t.Parallel()
	ci := access.Principal{Name: "ci", Role: access.Operator, Via: access.ViaToken}
	other := access.Principal{Name: "other", Role: access.Viewer, Via: access.ViaToken}
	elsewhere := access.Peer{Addr: netip.MustParseAddr("192.0.2.8")}
	p := access.NewPace(10)

	if n, wait := burst(p, ci, remote, now); n != 20 || wait != 100*time.Millisecond {
		t.Errorf("%d requests at once, then a wait of %v; want 20 and 100 ms", n, wait)
	}
	if n, _ := burst(p, ci, elsewhere, now); n != 0 {
		t.Errorf("the token has %d more from another address", n)
	}
	if n, _ := burst(p, other, remote, now); n != 0 {
		t.Errorf("the address has %d more with another token", n)
	}
	if n, _ := burst(p, other, elsewhere, now); n != 20 {
		t.Errorf("another token from another address has %d, want 20: what was refused does not count", n)
	}
	if n, _ := burst(p, ci, loopback, now); n != 0 {
		t.Errorf("the token has %d more on the daemon's machine", n)
	}
	if n, _ := burst(p, ci, remote, now.Add(time.Second)); n != 10 {
		t.Errorf("after a second there are %d, want 10", n)
	}
	if n, _ := burst(p, ci, remote, now.Add(time.Hour)); n != 20 {
		t.Errorf("after an hour there are %d, want 20", n)
	}
}

func TestWhoeverIsOnThisMachineWithoutAccessControlIsNotSlowedDown(t *testing.T) {
	t.Parallel()
	local := access.Principal{Name: "local", Role: access.Admin, Via: access.ViaLocal}
	if n, _ := burst(access.NewPace(1), local, loopback, now); n != 10_000 {
		t.Errorf("%d requests, then a wait", n)
	}
	if n, _ := burst(access.NewPace(0), access.Principal{}, remote, now); n != 10_000 {
		t.Errorf("without a bound: %d requests, then a wait", n)
	}
}

func TestAnAddressIsANetworkOfIPv6AndManyOfThemTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	p := access.NewPace(1)
	at := func(text string) access.Peer { return access.Peer{Addr: netip.MustParseAddr(text)} }
	if n, _ := burst(p, access.Principal{}, at("2001:db8::1"), now); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	if n, _ := burst(p, access.Principal{}, at("2001:db8::2"), now); n != 0 {
		t.Errorf("a neighbour in the same /64 has %d more", n)
	}
	for i := range 3 * access.MaxAddresses {
		p.Wait(access.Principal{}, at(fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff)), now)
	}
	if n := p.Remembered(); n > access.MaxAddresses {
		t.Errorf("%d callers are remembered", n)
	}
}
