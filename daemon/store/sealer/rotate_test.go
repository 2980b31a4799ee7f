package sealer_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sealer"
)

var _ jobs.Sealer = (*sealer.Keyring)(nil)

// rows are sealed passwords, as a store keeps them.
type rows struct {
	sealed [][]byte
	err    error
}

func (r *rows) reseal(_ context.Context, reseal func([]byte) ([]byte, error)) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	fresh := slices.Clone(r.sealed)
	n := 0
	for i, s := range r.sealed {
		s, err := reseal(s)
		if err != nil {
			return 0, err
		}
		if s != nil {
			fresh[i] = s
			n++
		}
	}
	r.sealed = fresh
	return n, nil
}

// add seals a password into a new row.
func (r *rows) add(t *testing.T, s jobs.Sealer, plain string) {
	t.Helper()
	sealed, err := s.Seal([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	r.sealed = append(r.sealed, sealed)
}

// opens checks that the key file alone, as a daemon that starts reads it, opens every
// row.
func (r *rows) opens(t *testing.T, path string, want ...string) {
	t.Helper()
	k, err := sealer.OpenKeyring(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range r.sealed {
		plain, err := k.Open(s)
		if err != nil {
			t.Errorf("a row does not open: %v", err)
		}
		got = append(got, string(plain))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the rows hold %q, want %q", got, want)
	}
}

// made makes a key file, and a daemon's keyring of it.
func made(t *testing.T, log *slog.Logger) (path string, k *sealer.Keyring) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret.key")
	if _, _, err := sealer.LoadOrMake(path); err != nil {
		t.Fatal(err)
	}
	k, err := sealer.OpenKeyring(path, log)
	if err != nil {
		t.Fatal(err)
	}
	return path, k
}

func TestAKeyIsReplacedWhileTheDaemonRuns(t *testing.T) {
	t.Parallel()
	path, k := made(t, nil)
	var r rows
	r.add(t, k, "first")
	before := slices.Clone(r.sealed)
	old, err := sealer.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sealer.Rotate(path)
	if err != nil || len(keys.Recipients()) != 2 {
		t.Fatalf("Rotate = %v, %v", keys, err)
	}
	r.add(t, k, "sealed with the old key, which the daemon still has")
	r.opens(t, path, "first", "sealed with the old key, which the daemon still has")
	if err := k.Renew(t.Context(), r.reseal); err != nil {
		t.Fatal(err)
	}
	r.add(t, k, "new")
	if _, err := os.Stat(path + ".old"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old keys are still there: %v", err)
	}
	r.opens(t, path, "first", "sealed with the old key, which the daemon still has", "new")
	for _, s := range r.sealed {
		if _, err := old.Open(s); err == nil {
			t.Error("the old key still opens a row")
		}
	}
	if plain, err := k.Open(before[0]); err != nil || string(plain) != "first" {
		t.Errorf("what a run had taken before does not open any more: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v; want the key alone", entries, err)
	}
	settled := slices.Clone(r.sealed)
	if err := k.Renew(t.Context(), r.reseal); err != nil || !bytes.Equal(slices.Concat(settled...), slices.Concat(r.sealed...)) {
		t.Errorf("a second look changes rows (%v)", err)
	}
}

func TestACrashAtAnyStepOfARotationLosesNothing(t *testing.T) {
	t.Parallel()
	path, k := made(t, nil)
	var r rows
	r.add(t, k, "a")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// It dies when the present key is among the old ones, and still the present one.
	if err := os.WriteFile(path+".old", key, 0o600); err != nil {
		t.Fatal(err)
	}
	r.opens(t, path, "a")
	// It dies when the new one is in place.
	if _, err := sealer.Rotate(path); err != nil {
		t.Fatal(err)
	}
	r.opens(t, path, "a")
	// Nobody has sealed anew yet, and it is rotated again, and again.
	for range 2 {
		if _, err := sealer.Rotate(path); err != nil {
			t.Fatal(err)
		}
	}
	r.opens(t, path, "a")
	// The transaction fails.
	if k, err = sealer.OpenKeyring(path, nil); err != nil {
		t.Fatal(err)
	}
	r.err = errors.New("the disk is full")
	if err := k.Renew(t.Context(), r.reseal); !errors.Is(err, r.err) {
		t.Errorf("Renew = %v", err)
	}
	r.opens(t, path, "a")
	// It dies after the transaction, before the old keys are removed.
	kept, err := os.ReadFile(path + ".old")
	if err != nil {
		t.Fatal(err)
	}
	r.err = nil
	if err := k.Renew(t.Context(), r.reseal); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".old", kept, 0o600); err != nil {
		t.Fatal(err)
	}
	r.opens(t, path, "a")
	if k, err = sealer.OpenKeyring(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := k.Renew(t.Context(), r.reseal); err != nil {
		t.Fatal(err)
	}
	r.opens(t, path, "a")
	if _, err := os.Stat(path + ".old"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old keys are still there: %v", err)
	}
}

func TestAKeyThatAPersonPutInPlaceSealsEverythingAnew(t *testing.T) {
	t.Parallel()
	path, k := made(t, nil)
	var r rows
	r.add(t, k, "a")
	_, text := newKey(t)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Renew(t.Context(), r.reseal); err != nil {
		t.Fatal(err)
	}
	r.opens(t, path, "a")
}

func TestAKeyFileThatIsBrokenWhileTheDaemonRunsChangesNothing(t *testing.T) {
	t.Parallel()
	path, k := made(t, nil)
	var r rows
	r.add(t, k, "a")
	if err := os.WriteFile(path, []byte("AGE-SECRET-KEY-hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := k.Renew(t.Context(), r.reseal)
	if !errors.Is(err, sealer.ErrKey) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Renew = %v, want ErrKey without the text", err)
	}
	if plain, err := k.Open(r.sealed[0]); err != nil || string(plain) != "a" {
		t.Errorf("Open = %q, %v", plain, err)
	}
	if _, err := sealer.Rotate(path); !errors.Is(err, sealer.ErrKey) {
		t.Errorf("Rotate = %v, want ErrKey: the present key would be lost", err)
	}
}

func TestRowsThatNoKeyOpensAreLeftAndTold(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	path, k := made(t, slog.New(slog.NewTextHandler(&log, nil)))
	stranger, _ := newKey(t)
	var r rows
	r.add(t, stranger, "lost")
	r.add(t, k, "a")
	lost := r.sealed[0]
	if _, err := sealer.Rotate(path); err != nil {
		t.Fatal(err)
	}
	if err := k.Renew(t.Context(), r.reseal); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.sealed[0], lost) || !strings.Contains(log.String(), "open with none of the keys") || !strings.Contains(log.String(), "jobs=1") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestARotatedKeyKeepsItsModeAndALinkStaysOne(t *testing.T) {
	t.Parallel()
	_, text := newKey(t)
	target := keyFile(t, text, 0o640)
	link := filepath.Join(t.TempDir(), "secret.key")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := sealer.Rotate(link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{target: 0o640, link + ".old": 0o640} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want mode %v", path, info, err, want)
		}
	}
	if _, err := sealer.Rotate(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Rotate of no key = %v", err)
	}
}

func TestHashesOfATextAreFoundAgainAfterTheKeyWasReplaced(t *testing.T) {
	t.Parallel()
	path, k := made(t, nil)
	_, other := made(t, nil)
	first := k.Hashes("a purpose", "text")
	again, err := sealer.OpenKeyring(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if same := again.Hashes("a purpose", "text"); len(first) != 1 || !bytes.Equal(first[0], same[0]) {
		t.Errorf("%x, and after a restart %x", first, same)
	}
	for what, different := range map[string][][]byte{
		"another text": k.Hashes("a purpose", "texts"), "another purpose": k.Hashes("another purpose", "text"), "another key": other.Hashes("a purpose", "text"),
	} {
		if bytes.Equal(first[0], different[0]) {
			t.Errorf("%s has the same hash", what)
		}
	}
	if _, err := sealer.Rotate(path); err != nil {
		t.Fatal(err)
	}
	var r rows
	if err := k.Renew(t.Context(), r.reseal); err != nil {
		t.Fatal(err)
	}
	if after := k.Hashes("a purpose", "text"); len(after) != 2 || bytes.Equal(after[0], first[0]) || !bytes.Equal(after[1], first[0]) {
		t.Errorf("%x has become %x", first, after)
	}
}
