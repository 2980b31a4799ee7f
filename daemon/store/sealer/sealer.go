// Package sealer encrypts the passwords of jobs at rest with age.
//
// The key is an X25519 identity in a file, as age-keygen writes it, or a
// systemd credential, which is a file too; or one that the daemon made for
// itself. Who has the database but not the
// key learns the length of a password and nothing else. Who can read the
// daemon's memory or its key is not kept out.
package sealer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// ErrKey is returned for a key file that does not hold exactly one X25519
// identity, or that others may read.
var ErrKey = errors.New("unusable key file")

// ErrOpen is returned for a text that was not sealed with this key.
var ErrOpen = errors.New("not sealed with this key")

// maxKeyFile is more than an identity and its comments need, in bytes.
const maxKeyFile = 4096

// Sealer seals with one key. It implements jobs.Sealer.
type Sealer struct{ identity *age.X25519Identity }

// Load reads the key file at path. It refuses one that its group may write or
// that others may read.
func Load(path string) (*Sealer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return nil, fmt.Errorf("%w %s: its mode is %#o; make it 0600", ErrKey, path, mode)
	}
	s, err := Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	return s, nil
}

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
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-") // has mode 0600
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = fmt.Fprintf(f, "# Encrypts the passwords in jobs of hyper2kvmd, which cannot be read without it.\n%s\n", identity)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	switch err := os.Link(f.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Parse reads the text of a key file. Its errors quote nothing of it.
func Parse(r io.Reader) (*Sealer, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrKey, maxKeyFile)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil || len(identities) != 1 {
		return nil, fmt.Errorf("%w: want one age X25519 identity (make one with age-keygen)", ErrKey)
	}
	identity, ok := identities[0].(*age.X25519Identity)
	if !ok {
		return nil, fmt.Errorf("%w: want an age X25519 identity (make one with age-keygen)", ErrKey)
	}
	return &Sealer{identity}, nil
}

// Seal encrypts plain.
func (s *Sealer) Seal(plain []byte) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, s.identity.Recipient())
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

// Open decrypts what Seal returned, or returns an error that is [ErrOpen].
func (s *Sealer) Open(sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), s.identity)
	if err != nil {
		return nil, ErrOpen
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}
