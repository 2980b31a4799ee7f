package e2e

import (
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// Three daemons have the same wrong password, and many jobs and people that want it tried.
func TestAWrongPasswordIsTriedOnceByThreeDaemonsUntilItIsCorrected(t *testing.T) {
	t.Parallel()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	f := newFlotilla(t, flotillaOptions{
		vms: 12, daemons: 3, jobs: 4, limit: 12, takeover: 12 * time.Second,
		prepare: func(h *home) {
			h.key(key.String())
			h.write("password-lab", "wrong\n")
		},
	})
	f.daemons[0].accept(t, f.defs)
	for i, d := range f.daemons {
		if v := d.awaitTrouble(t); v.State != "login_refused" {
			t.Errorf("daemon %d: vCenter %+v", i, v)
		}
		if _, err := d.VMs(t.Context(), "lab", 0, ""); err == nil || !strings.Contains(err.Error(), "not tried again") {
			t.Errorf("daemon %d: the inventory: %v, want a login that is not tried", i, err)
		}
	}
	// One that is started again has forgotten nothing. It dies without its turn.
	for f.query(`SELECT count(*) FROM shares WHERE name LIKE 'logins of %'`) > 0 {
		pause()
	}
	f.kill(2)
	if _, err := f.daemons[2].VMs(t.Context(), "lab", 0, ""); err == nil || !strings.Contains(err.Error(), "not tried again") {
		t.Errorf("after a restart: the inventory: %v, want a login that is not tried", err)
	}
	if n := f.lab.Logins(); n.Failed != 1 || n.Succeeded != 0 {
		t.Errorf("logins %+v, want one that is refused", n)
	}
	// A person who says so at one of them gets one more, of all.
	if _, err := f.daemons[1].Resume(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	for f.lab.Logins().Failed < 2 {
		pause()
	}
	for i, d := range f.daemons {
		if _, err := d.VMs(t.Context(), "lab", 0, ""); err == nil {
			t.Errorf("daemon %d: the inventory: there is one", i)
		}
	}
	for _, h := range f.homes {
		h.write("password-lab", password+"\n")
	}
	f.until(f.finished)
	f.judge()
	if n := f.lab.Logins().Failed; n != 2 {
		t.Errorf("%d logins were refused, want 2: the first, and the one that a person asked for", n)
	}
}
