package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
)

func TestTheStoreIsAURLOrASection(t *testing.T) {
	t.Parallel()
	const url = "postgres://hyper2kvm@db/hyper2kvm?sslmode=verify-full"
	for in, want := range map[string]config.Store{
		"":                              {},
		"store:\n":                      {},
		"store: " + url + "\n":          {URL: url},
		"store: {url: '" + url + "'}\n": {URL: url},
		"store: {password_file: /pw}\n": {PasswordFile: "/pw"}, // with -store
		"store:\n  url: " + url + "\n  password_command: [vault, get]\n  password_ttl: 5m\n  connections: 20\n  takeover_after: 2m\n": {
			URL: url, PasswordCommand: []string{"vault", "get"}, PasswordTTL: config.Duration(5 * time.Minute), Connections: 20, TakeoverAfter: config.Duration(2 * time.Minute),
		},
	} {
		got, err := config.Decode(strings.NewReader(in), "c.yaml")
		if diff := cmp.Diff(want, got.Store); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", in, err, diff)
		}
	}
}

func TestAWrongStoreIsSaidWithoutItsValue(t *testing.T) {
	t.Parallel()
	const ok = "store:\n  url: postgres://u@h/d\n"
	for name, tt := range map[string]struct{ in, want string }{
		"a password in the URL":       {"store: postgres://u:hunter2@h/d\n", "store.url: must not hold a password"},
		"an empty one":                {"store: postgres://u:@h/d\n", "store.url: must not hold a password"},
		"one in the query":            {"store: postgres://u@h/d?password=hunter2\n", "store.url: must not hold a password"},
		"one of a key":                {"store: postgres://u@h/d?sslkey=k&sslpassword=hunter2\n", "store.url: must not hold a password"},
		"another database":            {"store: mysql://hunter2@h/d\n", "store.url: must be postgres://"},
		"a path":                      {"store: /var/lib/hunter2.db\n", "store.url: must be postgres://"},
		"no URL":                      {"store: 'postgres://u:hunter2@h:x/'\n", "store.url: must be postgres://"},
		"an unknown key":              {ok + "  password: hunter2\n", "line 3: unknown key password"},
		"a repeated key":              {ok + "  url: hunter2\n", "line 3"},
		"a list":                      {"store: [hunter2]\n", "line 1"},
		"two places":                  {ok + "  password_file: /hunter2\n  password_env: PW\n", "store.password: comes from one place only"},
		"a relative file":             {ok + "  password_file: hunter2\n", "store.password_file: must be an absolute path"},
		"a credential that is a path": {ok + "  password_credential: a/hunter2\n", "store.password_credential: must be the name"},
		"a variable that is none":     {ok + "  password_env: hunter2!\n", "store.password_env: must be the name of a variable"},
		"a time to live without use":  {ok + "  password_ttl: 5m\n", "store.password_ttl: needs password_command"},
		"too few connections":         {ok + "  connections: 2\n", "store.connections: must be 3 to 200"},
		"no connections":              {ok + "  connections: 0\n", "store.connections: must be 3 to 200"},
		"a takeover at once":          {ok + "  takeover_after: 5s\n", "store.takeover_after: must be a span of 6s to 1h0m0s"},
		"one after days":              {ok + "  takeover_after: 2d\n", "store.takeover_after: must be a span"},
		"one that is none":            {ok + "  takeover_after: hunter2\n", "store.takeover_after: must be a span"},
		"too many":                    {ok + "  connections: 201\n", "store.connections: must be 3 to 200"},
	} {
		_, err := config.Decode(strings.NewReader(tt.in), "c.yaml")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the value: %v", name, err)
		}
	}
}

func TestCommandsDoNotGetTheVariableWithTheStoresPassword(t *testing.T) {
	t.Parallel()
	c, err := config.Decode(strings.NewReader("store: {url: 'postgres://u@h/d', password_env: DB_PW}\n"), "c.yaml")
	if diff := cmp.Diff([]string{"DB_PW"}, c.PasswordVariables()); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
