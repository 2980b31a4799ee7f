package sealer

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Keyring is the sealer of a daemon: that of a key file whose key may be replaced
// while the daemon runs. What was a key once still opens. It implements
// jobs.Sealer.
type Keyring struct {
	path string
	log  *slog.Logger
	done string // of Renew alone: the keys that were read when everything was last sealed with the first

	mu   sync.Mutex
	keys *Sealer // as read last, and after them those that were there before
}

// OpenKeyring reads the key file at path, as [Load] does, and the old keys beside
// it. A nil log discards.
func OpenKeyring(path string, log *slog.Logger) (*Keyring, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	keys, _, err := loadAll(path)
	if err != nil {
		return nil, err
	}
	return &Keyring{path: path, log: log, keys: keys}, nil
}

func (k *Keyring) current() *Sealer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// Seal encrypts plain with the present key.
func (k *Keyring) Seal(plain []byte) ([]byte, error) { return k.current().Seal(plain) }

// Open decrypts what was sealed with any of the keys, or returns [ErrOpen].
func (k *Keyring) Open(sealed []byte) ([]byte, error) { return k.current().Open(sealed) }

// Hashes are hashes of a text under a key that is made of each of the keys for one
// purpose, that of the present key first: what was hashed is found again also after the
// key was replaced, for as long as the old one is known. Who does not have the key cannot
// try what the text may be.
func (k *Keyring) Hashes(purpose, text string) [][]byte {
	keys := k.current().identities
	all := make([][]byte, len(keys))
	for i, identity := range keys {
		all[i] = keyed(keyed([]byte(identity.String()), purpose), text)
	}
	return all
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// take makes fresh the keys that are used, and keeps those that were known.
func (k *Keyring) take(fresh *Sealer) *Sealer {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := &Sealer{slices.Clone(fresh.identities)}
	known := make(map[string]bool)
	for _, i := range all.identities {
		known[i.String()] = true
	}
	for _, i := range k.keys.identities {
		if !known[i.String()] {
			all.identities = append(all.identities, i)
		}
	}
	k.keys = all
	return all
}

// Rows replace each sealed password by what reseal makes of it, all of them or
// none; nil leaves one as it is. See [jobs.Manager.Reseal].
type Rows func(ctx context.Context, reseal func(sealed []byte) ([]byte, error)) (int, error)

// Renew takes in what is new in the key files. When the key is a new one, or there
// are old ones beside it, every row is sealed with the present one and the old ones
// are removed. Where the daemon may not do that, it says that a person can.
func (k *Keyring) Renew(ctx context.Context, rows Rows) error {
	inFile, old, err := loadAll(k.path)
	if err != nil {
		return err
	}
	name, before := inFile.name(), k.current().identities[0].String()
	if name == k.done || old == 0 && before == inFile.identities[0].String() {
		return nil
	}
	keys := k.take(inFile)
	lost := 0
	n, err := rows(ctx, func(sealed []byte) ([]byte, error) {
		fresh, none, err := keys.reseal(sealed)
		if none {
			lost++
		}
		return fresh, err
	})
	if err != nil {
		return fmt.Errorf("seal passwords with the new key: %w", err)
	}
	if lost > 0 {
		k.log.Warn("the passwords of some jobs open with none of the keys: these jobs will fail", "jobs", lost)
	}
	k.log.Info("passwords in jobs are sealed with the present key", "resealed", n)
	k.done = name
	if old == 0 {
		return nil
	}
	return k.prune(inFile)
}

// name stands for the keys, and is no secret.
func (s *Sealer) name() string { return strings.Join(s.Recipients(), " ") }

// prune removes the old keys, unless there are others by now.
func (k *Keyring) prune(was *Sealer) error {
	unlock, err := lockDir(filepath.Dir(k.path))
	if err != nil {
		return err
	}
	defer unlock()
	now, _, err := loadAll(k.path)
	if err != nil || now.name() != was.name() {
		return err
	}
	err = os.Remove(k.path + oldKeys)
	switch {
	case errors.Is(err, fs.ErrPermission) || readOnly(err):
		k.log.Warn("nothing is sealed with the old keys any more, and the daemon may not remove them: remove the file", "file", k.path+oldKeys)
		return nil
	case err != nil:
		return fmt.Errorf("remove the old keys: %w", err)
	}
	k.log.Info("the old keys are removed: nothing is sealed with them any more", "file", k.path+oldKeys)
	return syncDir(filepath.Dir(k.path))
}

// Watch renews at once and then every so often, until ctx ends. Trouble is logged
// and tried again.
func (k *Keyring) Watch(ctx context.Context, every time.Duration, rows Rows) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	told := ""
	for {
		err := k.Renew(ctx, rows)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			k.log.Error("the key file cannot be used as it is now; the keys known before go on", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
