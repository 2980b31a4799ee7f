package sealer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sealer"
)

var _ jobs.Sealer = (*sealer.Sealer)(nil)

// newKey returns a sealer and the text of its key file.
func newKey(t *testing.T) (*sealer.Sealer, string) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("# public key: %s\n%s\n", identity.Recipient(), identity) // as age-keygen writes it
	s, err := sealer.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s, text
}

// keyFile writes a key file.
func keyFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatOneKeySealsItOpensAndNoOtherDoes(t *testing.T) {
	t.Parallel()
	one, text := newKey(t)
	other, _ := newKey(t)
	secret := []byte("correct horse")
	sealed, err := one.Seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret) {
		t.Fatal("the sealed text holds the secret")
	}
	again, err := sealer.Load(keyFile(t, text, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := again.Open(sealed); err != nil || !bytes.Equal(plain, secret) {
		t.Errorf("Open = %q, %v", plain, err)
	}
	if _, err := other.Open(sealed); !errors.Is(err, sealer.ErrOpen) {
		t.Errorf("Open with another key = %v, want ErrOpen", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := one.Open(sealed); !errors.Is(err, sealer.ErrOpen) {
		t.Errorf("Open of a changed text = %v, want ErrOpen", err)
	}
}

func TestAKeyFileThatCannotBeUsedIsRefusedWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	_, text := newKey(t)
	_, second := newKey(t)
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by others": {text, 0o644},
		"two keys":           {text + second, 0o600},
		"no key":             {"# nothing here\n", 0o600},
		"not a key":          {"AGE-SECRET-KEY-hunter2", 0o600},
		"too long":           {strings.Repeat("#\n", 5000) + text, 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := keyFile(t, test.text, test.mode)
			_, err := sealer.Load(path)
			if !errors.Is(err, sealer.ErrKey) {
				t.Fatalf("Load = %v, want ErrKey", err)
			}
			if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error = %q", err)
			}
		})
	}
	if _, err := sealer.Load(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no file = %v, want ErrNotExist", err)
	}
}

func TestAKeyIsMadeOnceAndNeverReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret.key")
	first, made, err := sealer.LoadOrMake(path)
	if err != nil || !made {
		t.Fatalf("made %v, error %v", made, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	sealed, err := first.Seal([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	again, made, err := sealer.LoadOrMake(path)
	if err != nil || made {
		t.Fatalf("second time: made %v, error %v", made, err)
	}
	if plain, err := again.Open(sealed); err != nil || string(plain) != "correct horse" {
		t.Errorf("the second cannot open what the first sealed: %q, %v", plain, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("files %v, error %v; want the key alone", entries, err)
	}
	for name, broken := range map[string]string{
		"an empty file":              keyFile(t, "", 0o600),
		"a file that is no key":      keyFile(t, "once upon a time", 0o600),
		"a file that others read":    keyFile(t, "once upon a time", 0o644),
		"a directory":                t.TempDir(),
		"a link to nothing":          danglingLink(t),
		"below what is no directory": filepath.Join(keyFile(t, "x", 0o600), "secret.key"),
	} {
		before, _ := os.ReadFile(broken)
		if _, made, err := sealer.LoadOrMake(broken); err == nil || made {
			t.Errorf("%s: made %v, error %v; want an error", name, made, err)
		}
		if after, _ := os.ReadFile(broken); !bytes.Equal(before, after) {
			t.Errorf("%s was changed", name)
		}
	}
}

func danglingLink(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.Symlink("gone", path); err != nil {
		t.Fatal(err)
	}
	return path
}
