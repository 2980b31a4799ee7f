package landing

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

const (
	patience   = 5 * time.Minute // for a guest that has been started to answer, where a plan does not say
	lookPause  = 2 * time.Second
	maxConsole = 1 << 10 // bytes that are kept of a console
)

// await waits until the guest answers, and returns how, or "" when it does not.
func (l *lander) await(ctx context.Context) (answered string) {
	defer l.tell.Wait(fmt.Sprintf("waiting for the guest %s to answer: its agent, a DHCP lease, or its console", l.notes.Domain))()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(l.plan.Patience, patience))
	defer cancel()
	console := l.console(ctx)
	defer console.end()
	for {
		if answered = l.answer(ctx, console); answered != "" {
			return answered
		}
		if state := l.stopped(ctx); state != "" {
			l.tell.Warn(fmt.Sprintf("the guest %s was started and has %s since: look at its console", l.notes.Domain, state))
			return ""
		}
		if sleep.For(ctx, lookPause) != nil {
			l.tell.Warn(fmt.Sprintf("the guest %s runs and has not answered by its agent, a DHCP lease or its console: look at its screen", l.notes.Domain))
			return ""
		}
	}
}

// answer asks once by each way.
func (l *lander) answer(ctx context.Context, console *console) string {
	d, err := l.domainOf(ctx, l.notes.UUID)
	if err != nil {
		return ""
	}
	for _, way := range []struct {
		name   string
		source libvirt.DomainInterfaceAddressesSource
	}{{"agent", libvirt.DomainInterfaceAddressesSrcAgent}, {"lease", libvirt.DomainInterfaceAddressesSrcLease}} {
		var cards []libvirt.DomainInterface
		err := l.call(ctx, func() (err error) {
			cards, err = l.l.DomainInterfaceAddresses(d, uint32(way.source), 0)
			return err
		})
		if err != nil {
			continue
		}
		if addresses := addressesOf(cards); len(addresses) > 0 {
			return way.name + ": " + strings.Join(addresses, ", ")
		}
	}
	if line := console.last(); line != "" {
		return "console: " + line
	}
	return ""
}

// addressesOf lists the addresses of cards but the loopback.
func addressesOf(cards []libvirt.DomainInterface) (out []string) {
	for _, card := range cards {
		if card.Name == "lo" {
			continue
		}
		for _, a := range card.Addrs {
			out = append(out, safetext.Bounded(a.Addr, 64))
		}
	}
	return out
}

// stopped says what has become of a guest that does not run, or "".
func (l *lander) stopped(ctx context.Context) string {
	d, err := l.domainOf(ctx, l.notes.UUID)
	if err != nil {
		return ""
	}
	var state int32
	if err := l.call(ctx, func() (err error) {
		state, _, err = l.l.DomainGetState(d, 0)
		return err
	}); err != nil {
		return ""
	}
	switch libvirt.DomainState(state) {
	case libvirt.DomainShutoff:
		return "ended"
	case libvirt.DomainCrashed:
		return "crashed"
	case libvirt.DomainPaused:
		return "paused"
	}
	return ""
}

// console listens to a guest's serial line, over a connection of its own: the library
// does not end a stream.
type console struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	text []byte
}

func (l *lander) console(ctx context.Context) *console {
	ctx, cancel := context.WithCancel(ctx)
	c := &console{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		own, err := dial(ctx, l.plan.URI)
		if err != nil {
			return // there are other ways
		}
		defer own.close()
		d, err := own.domainOf(ctx, l.notes.UUID)
		if err == nil {
			_ = own.long(ctx, func() error { return own.l.DomainOpenConsole(d, nil, c, 0) })
		}
	}()
	return c
}

// Write implements io.Writer for the library's stream.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	c.text = c.text[max(0, len(c.text)-maxConsole):]
	return len(p), nil
}

// last is the last whole line that the console has shown, or "".
func (c *console) last() string {
	c.mu.Lock()
	text := bytes.Clone(c.text)
	c.mu.Unlock()
	end := bytes.LastIndexByte(text, '\n')
	if end < 0 {
		return ""
	}
	lines := strings.FieldsFunc(string(text[:end]), func(r rune) bool { return r == '\r' || r == '\n' })
	for i := len(lines) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(safetext.Bounded(lines[i], 200)); line != "" {
			return line
		}
	}
	return ""
}

func (c *console) end() {
	c.cancel()
	<-c.ended
}
