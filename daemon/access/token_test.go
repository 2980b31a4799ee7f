package access_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// newToken makes a token that expires in an hour.
func newToken(t *testing.T, name string, role access.Role) (access.Token, string) {
	t.Helper()
	token, secret, err := access.NewToken(name, role, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return token, secret
}

func TestATokenIsFoundByScannersOfSecretsAndNoTwoAreAlike(t *testing.T) {
	t.Parallel()
	scanner := regexp.MustCompile(`^h2k_[a-z2-7]{8}_[a-z2-7]{59}$`)
	seen := map[string]bool{}
	for range 200 {
		token, secret := newToken(t, "ci", access.Viewer)
		if !scanner.MatchString(secret) {
			t.Fatalf("%d characters that a scanner does not find", len(secret))
		}
		if strings.Contains(secret, "ci") && token.Name != "ci" || !strings.HasPrefix(secret, "h2k_"+token.ID+"_") {
			t.Fatal("the id is not the public part")
		}
		if seen[token.ID] || seen[secret] {
			t.Fatal("two tokens are alike")
		}
		seen[token.ID], seen[secret] = true, true
	}
}

func TestATokenNeedsANameARoleAndATimeToCome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		role    access.Role
		expires time.Time
		want    string // in the error, "" for none
	}{
		{"ci", access.Viewer, time.Time{}, ""},
		{"ci@büro", access.Admin, now.Add(time.Nanosecond), ""},
		{strings.Repeat("ä", 64), access.Admin, time.Time{}, ""},
		{"", access.Viewer, time.Time{}, "name"},
		{strings.Repeat("a", 65), access.Viewer, time.Time{}, "name"},
		{"a b", access.Viewer, time.Time{}, "name"},
		{"a\nb", access.Viewer, time.Time{}, "name"},
		{"a\x1b[2J", access.Viewer, time.Time{}, "name"},
		{"a\u202eb", access.Viewer, time.Time{}, "name"},
		{"ci", access.Nobody, time.Time{}, "role"},
		{"ci", access.Admin + 1, time.Time{}, "role"},
		{"ci", access.Viewer, now, "expires"},
		{"ci", access.Viewer, now.Add(-time.Hour), "expires"},
	} {
		_, secret, err := access.NewToken(c.name, c.role, now, c.expires)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q %v %v: %v", c.name, c.role, c.expires, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want) || secret != ""):
			t.Errorf("%q %v %v: %v, want an error about %s", c.name, c.role, c.expires, err, c.want)
		}
	}
}
