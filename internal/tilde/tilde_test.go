package tilde_test

import (
	"os/user"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/tilde"
)

func TestALeadingTildeIsTheHomeDirectory(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	for path, want := range map[string]string{
		"~": "/home/ann", "~/": "/home/ann/", "~/vms": "/home/ann/vms", "~//vms": "/home/ann//vms",
		"": "", "vms": "vms", "/srv/~": "/srv/~", "./~/vms": "./~/vms", "vms~": "vms~", "a/~/b": "a/~/b",
	} {
		if got, err := tilde.Expand(path); got != want || err != nil {
			t.Errorf("Expand(%q) = %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestTheHomeOfAnotherUserIsLookedUp(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tilde.Expand("~" + me.Username + "/vms"); err != nil || got != strings.TrimRight(me.HomeDir, "/")+"/vms" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAHomeThatIsNotKnownIsAnErrorThatSaysWhatToWrite(t *testing.T) {
	t.Setenv("HOME", "")
	for _, path := range []string{"~/vms", "~nobody-of-this-name/vms"} {
		got, err := tilde.Expand(path)
		if got != "" || err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "./~") {
			t.Errorf("Expand(%q) = %q, %v", path, got, err)
		}
	}
}
