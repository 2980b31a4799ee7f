// Package sealer encrypts the passwords of jobs at rest with age.
//
// The key is an X25519 identity in a file, as age-keygen writes it, or a
// systemd credential, which is a file too; or one that the daemon made for
// itself. Who has the database but not the key learns the length of a password and
// nothing else. Who can read the daemon's memory or its key is not kept out.
//
// A key is replaced in steps, of which each may be the last before a crash
// ([Rotate], [Keyring.Renew]): the present one is added to the file of old keys
// beside it (secret.key.old), a new one takes its place, every password is sealed
// again with that, and only then the old ones are removed. One key seals, all of
// them open.
package sealer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
)

// ErrKey is returned for a key file that does not hold exactly one X25519
// identity, or that others may read.
var ErrKey = errors.New("unusable key file")

// ErrOpen is returned for a text that was not sealed with these keys.
var ErrOpen = errors.New("not sealed with this key")

// maxKeyFile is more than an identity and its comments need, in bytes; and so many
// old keys are not rotated out within one life of a daemon.
const maxKeyFile = 4096

// Sealer seals with its first key and opens with all of them. It does not change.
type Sealer struct{ identities []*age.X25519Identity }

// Load reads the key file at path. It refuses one that its group may write or
// that others may read.
func Load(path string) (*Sealer, error) { return load(path, Parse) }

func load(path string, parse func(io.Reader) (*Sealer, error)) (*Sealer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return nil, fmt.Errorf("%w %s: its mode is %#o; make it 0600", ErrKey, path, mode)
	}
	s, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	return s, nil
}

// Parse reads the text of a key file. Its errors quote nothing of it.
func Parse(r io.Reader) (*Sealer, error) {
	s, err := parseAll(r)
	if err == nil && len(s.identities) != 1 {
		return nil, fmt.Errorf("%w: want one age X25519 identity (make one with age-keygen)", ErrKey)
	}
	return s, err
}

// parseAll is Parse for any number of keys.
func parseAll(r io.Reader) (*Sealer, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrKey, maxKeyFile)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%w: want one age X25519 identity (make one with age-keygen)", ErrKey)
	}
	s := new(Sealer)
	for _, i := range identities {
		identity, ok := i.(*age.X25519Identity)
		if !ok {
			return nil, fmt.Errorf("%w: want an age X25519 identity (make one with age-keygen)", ErrKey)
		}
		s.identities = append(s.identities, identity)
	}
	return s, nil
}

// Recipients are the public halves of the keys, which are no secret; the first is
// that of the key that seals.
func (s *Sealer) Recipients() []string {
	out := make([]string, len(s.identities))
	for i, identity := range s.identities {
		out[i] = identity.Recipient().String()
	}
	return out
}

// Seal encrypts plain.
func (s *Sealer) Seal(plain []byte) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, s.identities[0].Recipient())
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
	for _, identity := range s.identities {
		if plain, err := open(sealed, identity); err == nil {
			return plain, nil
		}
	}
	return nil, ErrOpen
}

func open(sealed []byte, identity *age.X25519Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		return nil, ErrOpen
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// reseal returns what was sealed with another key sealed with the first one; nil
// when it is already, or when no key opens it.
func (s *Sealer) reseal(sealed []byte) (fresh []byte, lost bool, err error) {
	if _, err := open(sealed, s.identities[0]); err == nil {
		return nil, false, nil
	}
	plain, err := s.Open(sealed)
	if err != nil {
		return nil, true, nil
	}
	fresh, err = s.Seal(plain)
	return fresh, false, err
}
