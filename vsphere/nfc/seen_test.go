package nfc_test

import (
	"context"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/authd"
)

func TestWhatAHostShowsOfItselfIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, mib, func(c *authd.Config) { c.Version, c.Buffer = 9, 64*kib })
	r.fault("late-36", -1)
	reader := r.reader(nil)
	if _, err := reader.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := reader.Seen()
	if !s.Ticket || !s.Thumbprint || s.Certificate || !s.Connected || s.Daemon != "1.10" || !slices.Contains(s.Announces, "SHA256 supported") ||
		s.Version != 9 || !s.LateStatus || s.Buffer != 64*kib || !s.Opened || reader.Connections() != 1 {
		t.Errorf("seen %+v, %d connections", s, reader.Connections())
	}
	r.clean(reader)
}

func TestAGreetingIsReadWithoutATicketBeingUsedOrADiskOpened(t *testing.T) {
	t.Parallel()
	r := newRig(t, mib, func(c *authd.Config) {
		c.Greeting = "220 VMware Authentication Daemon Version 1.00: SSL Required, NFCSSL supported/t"
	})
	reader := r.reader(nil)
	err := reader.Greet(context.Background())
	s := reader.Seen()
	if err == nil || s.Daemon != "1.00" || !slices.Equal(s.Announces, []string{"SSL Required", "NFCSSL supported"}) && !slices.Equal(s.Announces, []string{"NFCSSL supported"}) {
		t.Errorf("seen %+v, error %v", s, err)
	}
	reader.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.used) > 0 || r.server.State().Files > 0 || s.Opened {
		t.Errorf("tickets used: %d, files open: %d", len(r.used), r.server.State().Files)
	}
}
