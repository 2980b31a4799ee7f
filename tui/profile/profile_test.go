package profile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/tui/profile"
)

func open(t *testing.T) *profile.Store {
	t.Helper()
	s, err := profile.Open(filepath.Join(t.TempDir(), "hyper2kvm"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatIsSavedIsFoundByNameAndByHost(t *testing.T) {
	t.Parallel()
	s := open(t)
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Fatalf("a store that is not there lists %v, %v", all, err)
	}
	lab := profile.Profile{Name: "lab", URL: "https://lab.example.com:8989/sdk", User: "admin", Thumbprint: "AA:BB"}
	prod := profile.Profile{Name: "prod", URL: "https://vc.example.com/sdk", User: "ops"}
	for _, p := range []profile.Profile{prod, {Name: "lab", URL: "https://old.example.com/sdk"}, lab} {
		if err := s.Save(p); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]profile.Profile{lab, prod}, all); diff != "" {
		t.Error(diff)
	}
	if got, ok, err := s.ForHost("LAB.example.com:8989"); !ok || err != nil || got != lab {
		t.Errorf("by host: %v, %t, %v", got, ok, err)
	}
	if _, ok, _ := s.ForHost("lab.example.com"); ok {
		t.Error("another port passed for the same host")
	}
	if got, ok, err := s.Find("prod"); !ok || err != nil || got != prod {
		t.Errorf("by name: %v, %t, %v", got, ok, err)
	}
}

func TestOnlyTheOwnerCanReadTheFileAndItHoldsNoPassword(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := s.Save(profile.Profile{Name: "x", URL: "https://admin:hunter2@vc.example.com/sdk", User: "admin"}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v", info.Mode())
	}
	b, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "hunter2") {
		t.Error("the password of the URL was saved")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(s.Path()), ".profiles-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAFileThatCannotBeReadIsNotOverwritten(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := os.MkdirAll(filepath.Dir(s.Path()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path(), []byte("profiles:\n  - name: x\n    password: secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(profile.Profile{Name: "y", URL: "https://vc/sdk"}); err == nil || !strings.Contains(err.Error(), "mend or remove") {
		t.Errorf("saving gave %v", err)
	}
}
