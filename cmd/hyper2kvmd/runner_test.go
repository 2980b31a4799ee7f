package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// site is a runner at a lab, which its configuration calls "lab".
type site struct {
	*runner
	lab      *vspheretest.Server
	user     string
	secret   string
	password string // file that holds it
}

func newSite(t *testing.T, change func(*config.VCenter)) site {
	t.Helper()
	lab := labWithVM(t)
	u := lab.URL()
	s := site{lab: lab, user: u.User.Username(), password: filepath.Join(t.TempDir(), "password")}
	s.secret, _ = u.User.Password()
	u.User = nil
	s.write(t, s.secret)
	c := config.VCenter{URL: u.String(), Username: s.user, PasswordFile: s.password, Insecure: true}
	if change != nil {
		change(&c)
	}
	s.runner = newRunner(vcenters{
		config: config.Config{VCenters: map[string]config.VCenter{"lab": c}},
		getenv: func(string) string { return "" }, logins: newLogins(), log: slog.New(slog.DiscardHandler),
	}, transfer.NewLimiter(0, nil), nil)
	return s
}

func (s site) write(t *testing.T, password string) {
	t.Helper()
	if err := os.WriteFile(s.password, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
}

// export is an export of the lab's VM.
func (s site) export(t *testing.T) job.Definition {
	t.Helper()
	return job.Definition{VMPath: s.lab.InventoryPath("web"), OutputPath: t.TempDir(), Options: job.Options{Format: job.FormatRaw}}
}

// run runs a job and returns what is said of the vCenter, if anything is.
func (s site) run(t *testing.T, def job.Definition) (*jobs.Unavailable, error) {
	t.Helper()
	_, err := s.Run(t.Context(), def, progress.New())
	var u *jobs.Unavailable
	errors.As(err, &u)
	return u, err
}

func TestWhatIsWrongWithTheDaemonsVCenterIsNoFaultOfTheJob(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*config.VCenter)
		breaks func(t *testing.T, s site)
		state  jobs.VCenterState
		says   string
	}{
		"wrong password":      {breaks: func(t *testing.T, s site) { s.write(t, "wrong") }, state: jobs.LoginRefused, says: "not tried again"},
		"no password file":    {breaks: func(_ *testing.T, s site) { _ = os.Remove(s.password) }, state: jobs.LoginRefused, says: "no such file"},
		"empty password file": {breaks: func(t *testing.T, s site) { s.write(t, "") }, state: jobs.LoginRefused, says: "empty"},
		"another certificate": {change: func(c *config.VCenter) { c.Insecure, c.Thumbprint = false, strings.Repeat("00:", 31)+"00" }, state: jobs.Misconfigured, says: "thumbprint"},
		"no CA file":          {change: func(c *config.VCenter) { c.Insecure, c.CAFile = false, "/no/such/file" }, state: jobs.Misconfigured, says: "/no/such/file"},
		"no such name":        {change: func(c *config.VCenter) { c.URL = "https://vcenter.invalid/sdk" }, state: jobs.Unreachable, says: "vcenter.invalid"},
		"away":                {breaks: func(t *testing.T, s site) { t.Cleanup(s.lab.Down(vspheretest.Control, vspheretest.Refuse)) }, state: jobs.Unreachable},
		"starting":            {breaks: func(t *testing.T, s site) { t.Cleanup(s.lab.Down(vspheretest.Control, vspheretest.Unavailable)) }, state: jobs.Unreachable},
		"a page for people":   {breaks: func(t *testing.T, s site) { t.Cleanup(s.lab.Down(vspheretest.Control, vspheretest.HTML)) }, state: jobs.Unreachable},
		"no single sign-on": {breaks: func(t *testing.T, s site) {
			if err := s.lab.AddFault("fault:call=Login,fault=SystemError,times=always"); err != nil {
				t.Fatal(err)
			}
		}, state: jobs.Unreachable},
		"no permission to log in": {breaks: func(t *testing.T, s site) {
			if err := s.lab.AddFault("fault:call=Login,fault=NoPermission,times=always"); err != nil {
				t.Fatal(err)
			}
		}, state: jobs.LoginRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tt.change)
			if tt.breaks != nil {
				tt.breaks(t, s)
			}
			u, err := s.run(t, s.export(t))
			if u == nil || u.State != tt.state || u.Back || u.Delay != 0 || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("run = %v (%+v), want state %s and %q", err, u, tt.state, tt.says)
			}
			probe := new(jobs.Unavailable)
			if err := s.Probe(t.Context(), s.export(t)); !errors.As(err, &probe) || probe.State != tt.state {
				t.Errorf("probe = %v (%+v), want state %s", err, probe, tt.state)
			}
		})
	}
}

func TestAProbeSeesThatAPasswordWasCorrected(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.write(t, "wrong")
	_, _ = s.run(t, s.export(t))
	for range 20 {
		_ = s.Probe(t.Context(), s.export(t))
	}
	if n := s.lab.Logins().Failed; n != 1 {
		t.Errorf("%d logins with a wrong password, want 1", n)
	}
	s.write(t, s.secret)
	if err := s.Probe(t.Context(), s.export(t)); err != nil {
		t.Errorf("probe with the right password: %v", err)
	}
	if u, err := s.run(t, s.export(t)); u != nil || err != nil {
		t.Errorf("run with the right password: %v", err)
	}
	if n := s.lab.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestAJobWithAUserOfItsOwnDoesNotSufferFromTheDaemonsPassword(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*testing.T, site){
		"refused": func(t *testing.T, s site) { s.write(t, "wrong"); _, _ = s.run(t, s.export(t)) },
		"missing": func(_ *testing.T, s site) { _ = os.Remove(s.password) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *config.VCenter) { c.Username = "service" })
			breaks(t, s)
			own := s.export(t)
			own.Username, own.Password = s.user, s.secret
			if _, err := s.run(t, own); err != nil {
				t.Errorf("run = %v", err)
			}
		})
	}
}

func TestWhatAJobSaysOfAVCenterIsTheJobsOwnFault(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for name, tt := range map[string]struct {
		change    func(*job.Definition)
		waits     bool
		permanent bool
	}{
		"mistyped name":    {change: func(d *job.Definition) { d.VCenterURL = "https://vcenter.invalid/sdk" }},
		"nobody listens":   {change: func(d *job.Definition) { d.VCenterURL = "https://" + "127.0.0.1:1" }, waits: true},
		"wrong password":   {change: func(d *job.Definition) { d.Password = "wrong" }, permanent: true},
		"wrong thumbprint": {change: func(d *job.Definition) { d.Insecure, d.Thumbprint = false, strings.Repeat("00:", 31)+"00" }, permanent: true},
		"unknown vCenter": {change: func(d *job.Definition) {
			*d = job.Definition{VCenter: "nope", VMPath: "a", OutputPath: d.OutputPath}
		}, permanent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			def := s.export(t)
			def.VCenterURL, def.Username, def.Password, def.Insecure = "https://"+s.lab.URL().Host, s.user, s.secret, true
			tt.change(&def)
			u, err := s.run(t, def)
			if err == nil || (u != nil) != tt.waits || u == nil && migrate.Permanent(err) != tt.permanent {
				t.Errorf("run = %v (%+v), permanent %v", err, u, migrate.Permanent(err))
			}
		})
	}
}

func TestAnErrorInTheMiddleOfARunIsTheVCentersOnlyWhenThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	err := fmt.Errorf("read the manifest: %w", &vsphere.Error{Op: "read the manifest", Kind: vsphere.ErrUnreachable, Err: errors.New("no answer")})
	var u *jobs.Unavailable
	if got := s.judge(t.Context(), s.export(t), progress.Exporting, err); !errors.As(got, &u) || !u.Back {
		t.Errorf("at a vCenter that answers: %+v", got)
	}
	defer s.lab.Down(vspheretest.Control, vspheretest.Refuse)()
	u = nil
	if got := s.judge(t.Context(), s.export(t), progress.Exporting, err); !errors.As(got, &u) || u.Back || u.State != jobs.Unreachable {
		t.Errorf("at a vCenter that is away: %+v", got)
	}
	cut := errors.New("the host cut the stream too often")
	if got := s.judge(t.Context(), s.export(t), progress.Exporting, cut); !errors.As(got, &u) || !errors.Is(got, cut) {
		t.Errorf("a transfer that failed while the vCenter was away as well: %v", got)
	}
}

func TestWhatHasNothingToDoWithTheVCenterStaysTheJobsFailure(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	cut := errors.New("the host cut the stream too often")
	if got := s.judge(t.Context(), s.export(t), progress.Exporting, cut); got != cut { //nolint:errorlint // it must be untouched
		t.Errorf("judged as %v", got)
	}
	defer s.lab.Down(vspheretest.Control, vspheretest.Refuse)()
	final := &migrate.PreflightError{VM: "web"}
	if got := s.judge(t.Context(), s.export(t), progress.Discovering, final); got != error(final) { //nolint:errorlint // it must be untouched
		t.Errorf("a VM that cannot be exported, judged as %v", got)
	}
}
