package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
)

const full = `
daemon:
  addr: localhost:9090
  state_dir: /var/lib/hyper2kvm
  jobs: 8
  vddk_libdir: /opt/vmware-vix-disklib-distrib
  virtio_win: /srv/virtio-win.iso
  secret_key_credential: hyper2kvm-key
vcenters:
  prod:
    url: https://vc.example.com/sdk
    username: svc@vsphere.local
    password_credential: vc-prod
    thumbprint: AA:BB
    datacenter: DC0
    limits: {jobs: 4, disks: 20, disks_per_host: 6}
  lab:
    url: vc.lab.example.com
    username: root
    password_file: /etc/hyper2kvm/lab.pw
    insecure: true
`

func TestAFullFileIsRead(t *testing.T) {
	t.Parallel()
	got, err := config.Decode(strings.NewReader(full), "c.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Daemon: config.Daemon{Addr: "localhost:9090", StateDir: "/var/lib/hyper2kvm", Jobs: 8, VDDKLibDir: "/opt/vmware-vix-disklib-distrib", VirtioWin: "/srv/virtio-win.iso", SecretKeyCredential: "hyper2kvm-key"},
		VCenters: map[string]config.VCenter{
			"prod": {
				URL: "https://vc.example.com/sdk", Username: "svc@vsphere.local", PasswordCredential: "vc-prod",
				Thumbprint: "AA:BB", Datacenter: "DC0", Limits: config.Limits{Jobs: 4, Disks: 20, DisksPerHost: 6},
			},
			"lab": {URL: "vc.lab.example.com", Username: "root", PasswordFile: "/etc/hyper2kvm/lab.pw", Insecure: true},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff([]string{"lab", "prod"}, got.Names()); d != "" {
		t.Errorf("names, -want +got:\n%s", d)
	}
}

func TestAnEmptyFileIsADaemonWithDefaults(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "\n# only a comment\n", "daemon:\nvcenters:\n"} {
		if c, err := config.Decode(strings.NewReader(in), "c.yaml"); err != nil || len(c.VCenters) != 0 {
			t.Errorf("%q: %+v, %v", in, c, err)
		}
	}
}

func TestErrorsNameKeyAndLineAndNoValue(t *testing.T) {
	t.Parallel()
	vc := func(lines string) string {
		return "vcenters:\n  v:\n    url: https://h/sdk\n    username: u\n    password_file: /p\n" + lines
	}
	for name, tt := range map[string]struct{ in, want string }{
		"unknown key":              {"daemon:\n  adress: hunter2\n", "line 2: unknown key adress"},
		"a password in the file":   {vc("    password: hunter2\n"), "line 6: unknown key password"},
		"wrong kind":               {"daemon:\n  jobs: hunter2\n", "line 2: a text cannot stand here, want a whole number"},
		"wrong kind by tag":        {"daemon:\n  jobs: !!int hunter2\n", "cannot decode"},
		"text for a mapping":       {"daemon: hunter2\n", "line 1: a text cannot stand here, want a mapping"},
		"repeated key":             {"daemon: {}\ndaemon: {}\n", "already defined at line 1"},
		"two documents":            {"daemon: {}\n---\nvcenters: {}\n", "more than one"},
		"bad syntax":               {"daemon: [\n", "line 1"},
		"a list that ends badly":   {"daemon: {jobs: 1\n", "did not find expected ',' or '}'"},
		"a value like an alias":    {vc("    datacenter: *hunter2\n"), `an alias (*…) to nothing; quote a value that begins with "*"`},
		"a value like an anchor":   {"daemon: &hunter2 {<<: *hunter2}\n", "an anchor (&…) that holds itself"},
		"user info in the URL":     {"vcenters: {v: {url: 'https://a:hunter2@h/sdk', username: u, password_file: /p}}", "vcenters.v.url: must not hold user or password"},
		"no URL":                   {"vcenters: {v: {username: u, password_file: /p}}", "vcenters.v.url: is missing"},
		"not a URL":                {"vcenters: {v: {url: 'ftp://hunter2', username: u, password_file: /p}}", "vcenters.v.url: is no URL"},
		"no username":              {"vcenters: {v: {url: h, password_file: /p}}", "vcenters.v.username: is missing"},
		"no password":              {"vcenters: {v: {url: h, username: u}}", "vcenters.v.password_file: is missing"},
		"two passwords":            {vc("    password_credential: c\n"), "vcenters.v.password_file: excludes password_credential"},
		"credential as path":       {"vcenters: {v: {url: h, username: u, password_credential: a/b}}", "not a path"},
		"relative password file":   {"vcenters: {v: {url: h, username: u, password_file: hunter2}}", "must be an absolute path"},
		"insecure with thumbprint": {vc("    insecure: true\n    thumbprint: hunter2\n"), "vcenters.v.insecure: excludes"},
		"negative limit":           {vc("    limits: {disks: -1}\n"), "vcenters.v.limits.disks: must be 1 to 512"},
		"no rate":                  {"daemon: {limit: hunter2}", "daemon.limit: must be a rate such as 200MB/s"},
		"no jobs at all":           {"daemon: {jobs: 0}", "daemon.jobs: must be 1 to 256, or absent for the default"},
		"no jobs of a vCenter":     {vc("    limits: {jobs: 0}\n"), "vcenters.v.limits.jobs: must be 1 to 256"},
		"no disks of a vCenter":    {vc("    limits: {disks: 0, disks_per_host: 0}\n"), "vcenters.v.limits.disks_per_host: must be 1 to 64"},
		"a port that is none":      {"vcenters: {v: {url: 'https://h:70000/sdk', username: u, password_file: /p}}", "vcenters.v.url: is no URL"},
		"a port without a host":    {"vcenters: {v: {url: 'https://:443/sdk', username: u, password_file: /p}}", "vcenters.v.url: is no URL"},
		"too many jobs":            {"daemon: {jobs: 1000}", "daemon.jobs: must be 1 to 256"},
		"a default that is none":   {"daemon: {default_vcenter: hunter2}", "daemon.default_vcenter: is none of vcenters"},
		"two secret keys":          {"daemon: {secret_key_file: /k, secret_key_credential: k}", "excludes secret_key_credential"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Decode(strings.NewReader(tt.in), "c.yaml")
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to contain %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes a value: %q", err)
			}
			if !strings.Contains(err.Error(), "c.yaml") {
				t.Errorf("the error does not name the file: %q", err)
			}
		})
	}
}

func TestACountThatIsLeftOutIsTheDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\ufeffdaemon: {}", "daemon: {jobs: }", "daemon: {jobs: null}"} {
		if c, err := config.Decode(strings.NewReader(text), "c"); err != nil || c.Daemon.Jobs != 0 {
			t.Errorf("%q: %d, %v", text, c.Daemon.Jobs, err)
		}
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Decode(strings.NewReader("daemon: {jobs: -1, state_dir: x, vddk_libdir: y, virtio_win: z}\nvcenters: {v: {}}"), "c")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"daemon.jobs", "daemon.state_dir", "daemon.vddk_libdir", "daemon.virtio_win", "vcenters.v.url", "vcenters.v.username", "vcenters.v.password_file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %q", want, err)
		}
	}
}

func TestTheOnlyVCenterIsTheDefault(t *testing.T) {
	t.Parallel()
	two := map[string]config.VCenter{"a": {}, "b": {}}
	for _, tt := range []struct {
		c    config.Config
		want string
	}{
		{config.Config{}, ""},
		{config.Config{VCenters: map[string]config.VCenter{"a": {}}}, "a"},
		{config.Config{VCenters: two}, ""},
		{config.Config{VCenters: two, Daemon: config.Daemon{DefaultVCenter: "b"}}, "b"},
	} {
		if got := tt.c.DefaultVCenter(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.c, got, tt.want)
		}
	}
}

func TestAMissingFileIsToldApart(t *testing.T) {
	t.Parallel()
	_, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestPasswordsComeFromFilesAndCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pw")
	if err := os.WriteFile(path, []byte(" pass word \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range []config.VCenter{{PasswordFile: path}, {PasswordCredential: "pw"}} {
		if got, err := v.Password(dir); err != nil || got != " pass word " {
			t.Errorf("%+v: %q, %v", v, got, err)
		}
	}
	if _, err := (config.VCenter{PasswordCredential: "empty"}).Password(dir); err == nil {
		t.Error("an empty password was taken")
	}
	if _, err := (config.VCenter{PasswordCredential: "pw"}).Password(""); err == nil || !strings.Contains(err.Error(), "LoadCredential=pw") {
		t.Errorf("without a credentials directory: %v", err)
	}
}

func TestASecretIsInItsFileOrAmongTheCredentials(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, credential, dir, want string }{
		{"", "", "/run/credentials", ""},
		{"/etc/key", "", "/run/credentials", "/etc/key"},
		{"/etc/key", "", "", "/etc/key"},
		{"", "key", "/run/credentials", "/run/credentials/key"},
	} {
		if got, err := config.SecretPath(tt.file, tt.credential, tt.dir); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
	if got, err := config.SecretPath("", "key", ""); err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY is not set; is LoadCredential=key: in the unit") {
		t.Errorf("without a credentials directory: %q, %v", got, err)
	}
}

func TestThePackagedExampleIsValid(t *testing.T) {
	t.Parallel()
	const path = "../../packaging/config.yaml"
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.VCenters) != 0 {
		t.Errorf("the example as shipped names vCenters: %v", c.Names())
	}
	// With the examples switched on it must be valid as well.
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	on := strings.ReplaceAll(string(b), "\n#-", "\n")
	c, err = config.Decode(strings.NewReader(on), path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.VCenters) != 2 {
		t.Errorf("vCenters of the example: %v", c.Names())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(full)
	f.Add("daemon: {addr: [1]}")
	f.Add("a: &a [*a]")
	f.Add("vcenters: {\"\": {url: \"::\"}}")
	f.Fuzz(func(t *testing.T, in string) {
		c, err := config.Decode(strings.NewReader(in), "f")
		if err != nil {
			return
		}
		for _, n := range c.Names() {
			if c.VCenters[n].URL == "" || c.VCenters[n].Username == "" {
				t.Errorf("accepted a vCenter without URL or user: %q", in)
			}
		}
	})
}

func TestAPasswordComesFromOnePlace(t *testing.T) {
	t.Parallel()
	const head = "vcenters:\n  prod:\n    url: vc.example.com\n    username: u\n    "
	for _, test := range []struct{ text, want string }{
		{"password_env: VC_PASSWORD", ""},
		{`password_command: [/usr/bin/vault, kv, get, "-field=password", secret/vc]`, ""},
		{"password_command: [/usr/bin/pass, vc]\n    password_ttl: 5m", ""},
		{"datacenter: DC0", "vcenters.prod.password_file: is missing"},
		{"password_file: /f\n    password_credential: c", "vcenters.prod.password_file: excludes password_credential"},
		{"password_file: /f\n    password_env: V", "vcenters.prod.password: comes from one place only"},
		{"password_env: V\n    password_command: [/bin/x]", "vcenters.prod.password: comes from one place only"},
		{"password_env: hunter2!", "vcenters.prod.password_env: must be the name of a variable"},
		{"password_command: [pass, show, vc]", ""},
		{"password_command: ['vault hunter2']", "vcenters.prod.password_command: must begin with a program"},
		{"password_command: [bin/vault, hunter2]", "vcenters.prod.password_command: must begin with a program"},
		{"password_command: ['']", "vcenters.prod.password_command: must begin with a program"},
		{"password_command: /bin/vault hunter2", "line 5"},
		{"password_file: /f\n    password_ttl: 5m", "vcenters.prod.password_ttl: needs password_command"},
		{"password_command: [/bin/x]\n    password_ttl: hunter2", "vcenters.prod.password_ttl: must be a time"},
		{"password_command: [/bin/x]\n    password_ttl: -5m", "vcenters.prod.password_ttl: must be a time"},
	} {
		_, err := config.Decode(strings.NewReader(head+test.text+"\n"), "c.yaml")
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.text, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: %v; want %s", test.text, err, test.want)
		}
	}
}

func TestHowLongPasswordsAreKeptCanBeSaidAndZeroIsNotAtAll(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"0s": 0, "24h": 24 * time.Hour} {
		c, err := config.Decode(strings.NewReader("daemon: {keep_passwords: "+text+"}"), "c.yaml")
		if err != nil || c.Daemon.KeepPasswords == nil || time.Duration(*c.Daemon.KeepPasswords) != want {
			t.Errorf("%s: %v, %v", text, c.Daemon.KeepPasswords, err)
		}
	}
	for _, text := range []string{"3 days", "-1h", "12", "[1h]", "999999h"} {
		if _, err := config.Decode(strings.NewReader("daemon: {keep_passwords: "+text+"}"), "c.yaml"); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestMetricsAreServedOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for addr, fine := range map[string]bool{
		"localhost:9464": true, "127.0.0.1:0": true, `"[::1]:9464"`: true,
		`":9464"`: false, "0.0.0.0:9464": false, "10.0.0.1:9464": false, "example.com:9464": false, "localhost": false, "localhost:http": false,
	} {
		if _, err := config.Decode(strings.NewReader("metrics: {addr: "+addr+"}"), "c.yaml"); (err == nil) != fine {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestForHowLongJobsAreKeptIsChecked(t *testing.T) {
	t.Parallel()
	for text, fine := range map[string]bool{
		"{jobs: 90d, failed: 180d, events: 30d, max_jobs: 50000}": true, "{jobs: 0s}": true, "{failed: 2160h}": true,
		"{jobs: 1s}": false, "{events: -1h}": false, "{jobs: 90}": false, "{jobs: 99999d}": false, "{jobs: d}": false,
		"{jobs: 1.5d}": false, "{max_jobs: 0}": false, "{max_jobs: -1}": false, "{job: 90d}": false,
	} {
		if _, err := config.Decode(strings.NewReader("retention: "+text), "c.yaml"); (err == nil) != fine {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBoundsOfTheDaemonAreChecked(t *testing.T) {
	t.Parallel()
	for text, fine := range map[string]bool{
		"{queued_jobs: 100, free_space: 5GiB}": true, "{free_space: 500MB}": true, "{}": true,
		"{queued_jobs: 0}": false, "{queued_jobs: -1}": false, "{free_space: lots}": false, "{free_space: -5GiB}": false,
	} {
		if _, err := config.Decode(strings.NewReader("limits: "+text), "c.yaml"); (err == nil) != fine {
			t.Errorf("%s: %v", text, err)
		}
	}
}
