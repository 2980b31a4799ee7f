package sealer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
)

// comment stands at the head of key files that are made here.
const comment = "# Encrypts the passwords in jobs of hyper2kvmd, which cannot be read without it.\n"

// LoadOrMake reads the key file at path, as [Load] does, and makes one with mode
// 0600 when there is none; made tells. A file that is there is never replaced,
// whatever is wrong with it: what was sealed with it would be lost.
func LoadOrMake(path string) (s *Sealer, made bool, err error) {
	s, err = Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, false, err
	}
	if made, err = makeKey(path); err != nil {
		return nil, false, fmt.Errorf("make the key file: %w", err)
	}
	s, err = Load(path)
	return s, made, err
}

// makeKey puts a new identity at path in one step, unless somebody else was
// faster.
func makeKey(path string) (made bool, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return false, err
	}
	name, err := written(path, []byte(comment+identity.String()+"\n"), nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.Remove(name)) }()
	switch err := os.Link(name, path); {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

// oldKeys stands behind a key file's name in that of the file of old keys, which
// only open.
const oldKeys = ".old"

const oldComment = "# Keys that were replaced. hyper2kvmd removes this file once nothing is sealed with them any more.\n"

// loadAll reads the key file at path and, where there are some, the old keys beside
// it; old is how many.
func loadAll(path string) (s *Sealer, old int, err error) {
	if s, err = Load(path); err != nil {
		return nil, 0, err
	}
	more, err := load(path+oldKeys, parseAll)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, 0, nil
	case err != nil:
		return nil, 0, err
	}
	s.identities = append(s.identities, more.identities...)
	return s, len(more.identities), nil
}

// Rotate replaces the key of the file at path by a new one, in steps of which none
// loses anything: the present one is first added to the old keys, which still open.
// Whoever has the rows ([Keyring.Renew]) seals them with the new key and removes
// the old ones. It returns the keys as they are then, the new one first.
func Rotate(path string) (*Sealer, error) {
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer unlock()
	keys, _, err := loadAll(path)
	if err != nil {
		return nil, err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	was, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	old := oldComment
	for _, i := range keys.identities {
		old += i.String() + "\n"
	}
	if len(old) > maxKeyFile {
		return nil, fmt.Errorf("%w: there are %d keys beside %s already: start the daemon, which seals everything with the newest and removes them", ErrKey, len(keys.identities), path)
	}
	if err := replace(path+oldKeys, []byte(old), was); err != nil {
		return nil, fmt.Errorf("keep the old key: %w", err)
	}
	if err := replace(path, []byte(comment+identity.String()+"\n"), was); err != nil {
		return nil, fmt.Errorf("replace the key file: %w", err)
	}
	keys, _, err = loadAll(path)
	return keys, err
}

// replace puts text at path, with the owner and mode of another file.
func replace(path string, text []byte, like os.FileInfo) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays one
	}
	name, err := written(path, text, like)
	if err != nil {
		return err
	}
	if err := os.Rename(name, path); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return syncDir(filepath.Dir(path))
}

// written writes text durably into a new file beside path and returns its name.
// Its mode is 0600, or with like, mode and owner are that file's.
func written(path string, text []byte, like os.FileInfo) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-") // has mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if like != nil {
		if err := errors.Join(own(f, like), f.Chmod(like.Mode().Perm())); err != nil {
			return "", err
		}
	}
	_, err = f.Write(text)
	return f.Name(), errors.Join(err, f.Sync())
}

func syncDir(path string) error {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncDir(dir, "."), dir.Close())
}

// LoadAll reads the key file at path, and the old keys beside it that still open.
func LoadAll(path string) (*Sealer, error) {
	s, _, err := loadAll(path)
	return s, err
}
