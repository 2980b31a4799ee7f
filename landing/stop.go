package landing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
)

const (
	// DefaultGrace is how long a guest may take to shut down before it is switched off.
	DefaultGrace = 5 * time.Minute
	// A guest that is just starting misses what it is asked, so it is asked again.
	askAgain = 15 * time.Second
	// stopPause is how long a guest's state is believed.
	stopPause = 500 * time.Millisecond
)

// ErrRuns: what a landing has made runs, and its source must not run beside it.
var ErrRuns = errors.New("what was made of the VM runs")

// StopTeller hears how a guest is stopped. Every field is to be set.
type StopTeller struct {
	Info func(text string)               // what was done
	Wait func(text string) (over func()) // what is waited for
}

// Stop sees to it that the guest that a landing has made is off and stays so: it is not
// started with its host any more, is asked to shut down, and is switched off when it has
// not done so within grace; 0 is [DefaultGrace]. Its definition and its volumes stay. A
// guest that is off, or that libvirt does not have any more, is fine. It may be
// called again.
//
// The error is [ErrAway] when libvirt cannot be asked, and [ErrRuns] when something runs
// that could not be stopped, or that has the guest's name and is another one.
func Stop(ctx context.Context, l job.Landed, grace time.Duration, tell StopTeller) error {
	if l.UUID == "" {
		return nil // no guest was made
	}
	if grace <= 0 {
		grace = DefaultGrace
	}
	c, err := dial(ctx, l.URI)
	if err != nil {
		return err
	}
	defer c.close()
	d, gone, err := c.madeBy(ctx, l)
	if err != nil {
		return err
	}
	if gone {
		tell.Info(fmt.Sprintf("the domain %s is gone from %s: there is nothing to stop", l.Domain, l.URI))
		return nil
	}
	s := &stopping{conn: c, domain: d, tell: tell}
	if err := s.stop(ctx, grace); err != nil {
		return fmt.Errorf("stop the domain %s at %s: %w", d.Name, l.URI, err)
	}
	return nil
}

// madeBy finds the guest that a landing has made. gone: there is none any more.
func (c *conn) madeBy(ctx context.Context, l job.Landed) (d libvirt.Domain, gone bool, err error) {
	if d, err = c.domainOf(ctx, l.UUID); !is(err, libvirt.ErrNoDomain) {
		return d, false, err
	}
	// Whoever has defined it anew may have left its UUID to libvirt.
	if d, err = c.domainNamed(ctx, l.Domain); is(err, libvirt.ErrNoDomain) {
		return d, true, nil
	}
	if err != nil {
		return d, false, err
	}
	active, err := c.active(ctx, d)
	if err != nil || !active {
		return d, true, err
	}
	return d, false, fault.WithHint(
		fmt.Errorf("%w: the domain %s runs at %s with another UUID than the one that was landed, so that it may be another machine", ErrRuns, l.Domain, l.URI),
		"look at it, and stop it yourself if it was made of this VM")
}

// active reports whether a domain runs, or is paused.
func (c *conn) active(ctx context.Context, d libvirt.Domain) (bool, error) {
	var active int32
	err := c.call(ctx, func() (err error) {
		active, err = c.l.DomainIsActive(d)
		return err
	})
	if is(err, libvirt.ErrNoDomain) { // a transient one goes when it stops
		return false, nil
	}
	return active != 0, err
}

// stopping is a guest that is being stopped.
type stopping struct {
	*conn
	domain libvirt.Domain
	tell   StopTeller
}

func (s *stopping) stop(ctx context.Context, grace time.Duration) error {
	if err := s.noAutostart(ctx); err != nil {
		return err
	}
	on, err := s.active(ctx, s.domain)
	if err != nil {
		return err
	}
	if !on {
		s.tell.Info(fmt.Sprintf("the domain %s is off", s.domain.Name))
		return nil
	}
	off, err := s.shutDown(ctx, grace)
	if err != nil {
		return err
	}
	if off {
		s.tell.Info(fmt.Sprintf("the domain %s has shut down", s.domain.Name))
		return nil
	}
	if err := s.switchOff(ctx); err != nil {
		return err
	}
	s.tell.Info(fmt.Sprintf("the domain %s was switched off", s.domain.Name))
	return nil
}

// noAutostart has libvirt not start the domain with its host.
func (s *stopping) noAutostart(ctx context.Context) error {
	changed := false
	err := s.call(ctx, func() error {
		auto, err := s.l.DomainGetAutostart(s.domain)
		if err != nil || auto == 0 {
			return err
		}
		changed = true
		return s.l.DomainSetAutostart(s.domain, 0)
	})
	if is(err, libvirt.ErrNoDomain) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w, or will when its host starts again: %w", ErrRuns, err)
	}
	if changed {
		s.tell.Info(fmt.Sprintf("the domain %s does not start with its host any more", s.domain.Name))
	}
	return nil
}

// shutDown asks the guest to shut down, and reports whether it has within grace.
func (s *stopping) shutDown(ctx context.Context, grace time.Duration) (off bool, err error) {
	if why := s.deaf(ctx); why != "" {
		s.tell.Info(fmt.Sprintf("the domain %s is %s and cannot shut down: it is switched off", s.domain.Name, why))
		return false, nil
	}
	defer s.tell.Wait(fmt.Sprintf("waiting until the guest %s has shut down, for which it has %s", s.domain.Name, grace))()
	end := time.Now().Add(grace)
	for ask := time.Now(); ; {
		if !time.Now().Before(ask) {
			if err := s.call(ctx, func() error { return s.l.DomainShutdownFlags(s.domain, 0) }); err != nil {
				if ctx.Err() != nil || errors.Is(err, ErrAway) {
					return false, err
				}
				on, lookErr := s.active(ctx, s.domain)
				if lookErr == nil && on {
					s.tell.Info(fmt.Sprintf("the domain %s cannot be asked to shut down (%v): it is switched off", s.domain.Name, err))
				}
				return !on, lookErr
			}
			ask = time.Now().Add(askAgain)
		}
		on, err := s.active(ctx, s.domain)
		switch {
		case err != nil || !on:
			return !on, err
		case !time.Now().Before(end):
			s.tell.Info(fmt.Sprintf("the guest %s has not shut down within %s: it is switched off", s.domain.Name, grace))
			return false, nil
		}
		if err := sleep.For(ctx, min(stopPause, time.Until(end))); err != nil {
			return false, err
		}
	}
}

// deaf says in which state a guest hears nothing, or "".
func (s *stopping) deaf(ctx context.Context) string {
	var state int32
	err := s.call(ctx, func() (err error) {
		state, _, err = s.l.DomainGetState(s.domain, 0)
		return err
	})
	if err != nil {
		return ""
	}
	switch libvirt.DomainState(state) {
	case libvirt.DomainPaused:
		return "paused"
	case libvirt.DomainPmsuspended:
		return "suspended"
	case libvirt.DomainCrashed:
		return "crashed"
	}
	return ""
}

// switchOff ends the guest as a power cut does.
func (s *stopping) switchOff(ctx context.Context) error {
	err := s.call(ctx, func() error { return s.l.DomainDestroy(s.domain) })
	if err == nil {
		return nil
	}
	on, lookErr := s.active(ctx, s.domain)
	switch {
	case lookErr != nil:
		return errors.Join(err, lookErr)
	case !on: // meanwhile
		return nil
	}
	return fault.WithHint(fmt.Errorf("%w and cannot be switched off: %w", ErrRuns, err), "stop it yourself: virsh destroy "+s.domain.Name)
}

// Off returns nil when the guest that a landing has made does not run, [ErrRuns] when it
// does, and [ErrAway] when libvirt cannot be asked.
func Off(ctx context.Context, l job.Landed) error {
	if l.UUID == "" {
		return nil
	}
	c, err := dial(ctx, l.URI)
	if err != nil {
		return err
	}
	defer c.close()
	d, gone, err := c.madeBy(ctx, l)
	if gone || err != nil {
		return err
	}
	on, err := c.active(ctx, d)
	if err == nil && on {
		err = fault.WithHint(fmt.Errorf("%w: somebody has started the domain %s at %s again", ErrRuns, d.Name, l.URI), "stop it, and see what starts it (a cluster, automation, a person)")
	}
	return err
}
