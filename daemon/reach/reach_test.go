package reach_test

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/reach"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func patterns(t *testing.T, texts ...string) []reach.Pattern {
	t.Helper()
	out := []reach.Pattern{}
	for _, s := range texts {
		p, err := reach.ParsePattern(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		out = append(out, p)
	}
	return out
}

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func forURL(u string) job.Definition {
	return job.Definition{VMPath: "vm", VCenterURL: u, Username: "u", Password: "p"}
}

func shared() bool { return true }

func TestAVCenterOfAJobIsOneThatIsAllowed(t *testing.T) {
	t.Parallel()
	known := []*url.URL{parse(t, "https://vc.example.com/sdk")}
	for name, c := range map[string]struct {
		policy  reach.Policy
		yes, no []string
	}{
		"a daemon of one's own": {
			reach.Policy{Known: known},
			[]string{"https://vc.example.com/sdk", "https://any.example.com", "https://10.0.0.1:8443/sdk", "https://127.0.0.1:8989/sdk", "https://localhost:1", "https://[::1]:1/sdk"},
			[]string{"https://169.254.169.254/latest", "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/", "https://[fd00:ec2::254]/", "https://224.0.0.1/"},
		},
		"one that others can ask": {
			reach.Policy{Known: known, Shared: shared},
			[]string{"https://vc.example.com/sdk", "https://VC.example.com:443/other"},
			[]string{"https://vc.example.com:8443/sdk", "https://any.example.com", "https://10.0.0.1/sdk", "https://127.0.0.1:8989/sdk", "https://localhost/", "https://169.254.169.254/"},
		},
		"listed": {
			reach.Policy{Shared: shared, VCenters: patterns(t, "vc2.example.com", "*.lab.example.com:8443", "10.1.0.0/16", "192.0.2.7", "[2001:db8::7]:443")},
			[]string{"https://vc2.example.com:1/sdk", "https://VC2.example.com./sdk", "https://a.b.lab.example.com:8443/", "https://10.1.255.1:9/", "https://192.0.2.7/", "https://[2001:db8::7]/", "https://[::ffff:10.1.0.1]/"},
			[]string{"https://vc.example.com/", "https://lab.example.com:8443/", "https://a.lab.example.com/", "https://evil-lab.example.com:8443", "https://10.2.0.1/", "https://[2001:db8::7]:444/", "https://vc2.example.com.evil.org/"},
		},
		"anything": {
			reach.Policy{Shared: shared, VCenters: patterns(t, "*")},
			[]string{"https://any.example.com:8443/", "https://10.0.0.1/"},
			[]string{"https://127.0.0.1/", "https://169.254.169.254/", "https://[::1]/", "https://0.0.0.0/"},
		},
		"this machine and its link, on purpose": {
			reach.Policy{Shared: shared, VCenters: patterns(t, "*:443", "127.0.0.0/8", "169.254.7.7")},
			[]string{"https://any.example.com/", "https://127.0.0.1:8989/", "https://169.254.7.7/"},
			[]string{"https://any.example.com:444/", "https://169.254.169.254/", "https://[::1]/"},
		},
		"nothing": {
			reach.Policy{VCenters: []reach.Pattern{}, Known: known},
			[]string{"https://vc.example.com/sdk"},
			[]string{"https://any.example.com", "https://127.0.0.1/"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusals := map[string]bool{}
			for _, u := range c.yes {
				if err := c.policy.Admit(forURL(u)); err != nil {
					t.Errorf("%s: %v", u, err)
				}
			}
			for _, u := range c.no {
				err := c.policy.Admit(forURL(u))
				if err == nil {
					t.Errorf("%s is allowed", u)
					continue
				}
				if !fault.IsPermanent(err) || fault.Hint(err) == "" || strings.Contains(err.Error(), parse(t, u).Hostname()) {
					t.Errorf("%s: %v", u, err)
				}
				refusals[err.Error()] = true
			}
			if len(refusals) > 1 {
				t.Errorf("one refusal can be told from another: %v", refusals)
			}
		})
	}
}

func TestANameThatStandsForThisMachineOrItsLinkIsFoundOutWhenItIsConnectedTo(t *testing.T) {
	t.Parallel()
	at := func(p reach.Policy, u, address string) bool {
		allow := p.Dial(parse(t, u))
		return allow == nil || allow(netip.MustParseAddr(address)) == nil
	}
	own, listed, any := reach.Policy{}, reach.Policy{VCenters: patterns(t, "vc.example.com", "localhost", "127.0.0.9")}, reach.Policy{VCenters: patterns(t, "*")}
	known := reach.Policy{Known: []*url.URL{parse(t, "https://vc.example.com/sdk")}, Shared: shared}
	for _, c := range []struct {
		policy  reach.Policy
		url     string
		address string
		want    bool
	}{
		{own, "https://vc.example.com/sdk", "10.0.0.1", true},
		{own, "https://vc.example.com/sdk", "127.0.0.1", true},
		{own, "https://vc.example.com/sdk", "169.254.169.254", false},
		{own, "https://vc.example.com/sdk", "fe80::1", false},
		{listed, "https://vc.example.com/sdk", "10.0.0.1", true},
		{listed, "https://vc.example.com/sdk", "127.0.0.1", false},
		{listed, "https://vc.example.com/sdk", "::ffff:169.254.169.254", false},
		{listed, "https://vc.example.com/sdk", "127.0.0.9", true},
		{listed, "https://localhost/sdk", "127.0.0.1", true},
		{any, "https://vc.example.com/sdk", "127.0.0.1", false},
		{any, "https://vc.example.com/sdk", "169.254.169.254", false},
		{known, "https://vc.example.com/sdk", "127.0.0.1", true}, // as the administrator has set it up
	} {
		if got := at(c.policy, c.url, c.address); got != c.want {
			t.Errorf("%s at %s: %t", c.url, c.address, got)
		}
	}
}

func TestAJobDoesNotWeakenHowAConfiguredVCenterIsChecked(t *testing.T) {
	t.Parallel()
	p := reach.Policy{Known: []*url.URL{parse(t, "https://vc.example.com/sdk")}, Shared: shared}
	def := forURL("https://vc.example.com/sdk")
	def.Insecure = true
	if err := p.Admit(def); err == nil || !strings.HasPrefix(err.Error(), "insecure: ") {
		t.Errorf("error %v", err)
	}
	p.VCenters = patterns(t, "vc.example.com")
	if err := p.Admit(def); err != nil {
		t.Errorf("one that is listed: %v", err)
	}
}

func TestOutputDirectoriesAreWhereThePolicySays(t *testing.T) {
	t.Parallel()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"state/vms", "images", "other"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../other", filepath.Join(top, "images", "link")); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(top, "state/vms")
	for name, c := range map[string]struct {
		policy  reach.Policy
		yes, no []string
		hint    string
	}{
		"a daemon of one's own":   {reach.Policy{StateRoot: state}, []string{"/other/x", "/images/link", "/state/vms/x"}, []string{"/.ssh"}, "the daemon's user may write to"},
		"one that others can ask": {reach.Policy{StateRoot: state, Shared: shared}, []string{"/state/vms", "/state/vms/x/y"}, []string{"/other/x", "/state", "/state/jobs.db", "/state/vmsx"}, state},
		"listed":                  {reach.Policy{StateRoot: state, OutputRoots: []string{filepath.Join(top, "images")}}, []string{"/images/x", "/images/y/z"}, []string{"/other/x", "/images/link", "/images/link/x", "/state/vms/x"}, filepath.Join(top, "images")},
		"none":                    {reach.Policy{StateRoot: state, OutputRoots: []string{}}, nil, []string{"/images/x", "/state/vms/x"}, "allows none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range c.yes {
				if err := c.policy.Admit(job.Definition{OutputPath: top + path}); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
			for _, path := range append(c.no, "/") {
				path = top + path
				if path == top+"/" {
					path = "/etc/x"
				}
				err := c.policy.Admit(job.Definition{OutputPath: path})
				if err == nil || strings.Contains(err.Error(), top) || !strings.Contains(fault.Hint(err), c.hint) {
					t.Errorf("%s: %v; %s", path, err, fault.Hint(err))
				}
			}
		})
	}
}

func TestAPatternThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "*.", ":443", "https://vc.example.com", "vc.example.com/sdk", "vc:0", "vc:65536", "vc:x", "vc:", "a*b", "*.*.x", "10.0.0.0/33", "10.0.0/8", "user@vc", "vc example", "*a", "a..b", "vc:-1", "vc:0443"} {
		if p, err := reach.ParsePattern(s); err == nil {
			t.Errorf("%q is read as %+v", s, p)
		}
	}
}
