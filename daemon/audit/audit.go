// Package audit keeps the log of every change of state: who, what, from where,
// with which result. Entries are only ever added, and each is bound to the one
// before by a hash.
//
// A change has two entries. The first is written before anything is done, and a
// change whose first entry cannot be written is not made. The second has the
// result and is written before the answer. A first without a second is of a change
// that the daemon did not survive, or whose result could not be written; jobs and
// their states tell what became of it.
//
// # Encoding
//
// An entry is a JSON object, kept as the bytes that were hashed. With H(0) being 32
// zero bytes, the hash of entry n is
//
//	H(n) = SHA-256("hyper2kvm audit 1\n" || H(n-1) || n as 8 bytes, big endian || JSON)
//
// so an entry that was changed, moved or removed breaks the chain there. The hash of
// the last one is also in a file beside the database (the head), written before the
// entry is committed, so that the removal of the last entries, or a database put
// back from an old backup, is noticed: [Log.Verify] reports it, and the next entry
// notes it for good.
//
// # Several daemons
//
// Where daemons share a store, each has a head file of its own, which names the last
// entry that this daemon added. It is written after the commit, and entries after it
// are the others': [NewShared].
//
// # Not promised
//
// The hashes are no signature. Whoever may write the database and the head can make
// another chain that is right in itself. Each entry's number and hash are therefore
// logged, too: where the journal is kept on another machine, compare with that.
// Of a daemon that was killed while it wrote an entry, the head may be one ahead;
// that cannot be told from that one entry having been removed.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// Action is what was done.
type Action string

// The actions.
const (
	Submit        Action = "jobs.submit"
	Cancel        Action = "jobs.cancel"
	Retry         Action = "jobs.retry"
	Rollback      Action = "jobs.rollback" // the way back is queued
	Delete        Action = "jobs.delete"
	Expire        Action = "jobs.expire" // the daemon's own doing
	SetJobLimit   Action = "jobs.limit"
	SetLimit      Action = "limits.set"
	ResumeVCenter Action = "vcenters.resume"
	DrainDaemon   Action = "daemons.drain"
	ResumeDaemon  Action = "daemons.resume"
	CreateToken   Action = "tokens.create"
	RevokeToken   Action = "tokens.revoke"
	RotateKey     Action = "keys.rotate"
	MoveStore     Action = "store.migrate"
	SignIn        Action = "sessions.begin"
	SignOut       Action = "sessions.end"
	DaemonStart   Action = "daemon.start"
	DaemonStop    Action = "daemon.stop"
)

// Entry is one entry of the log. It holds no secret.
type Entry struct {
	Time time.Time `json:"time"`

	// Of is the number of the entry whose result this is, 0 for a first one. Of
	// the fields below, a result has only Status, Done, Failed, Error, and Jobs where
	// the first entry could not name them.
	Of int64 `json:"of,omitempty"`

	Action    Action      `json:"action,omitempty"`
	Who       string      `json:"who,omitempty"`
	Role      access.Role `json:"role,omitempty"`
	Via       access.Via  `json:"via,omitempty"`
	From      string      `json:"from,omitempty"`    // address, or user of the unix socket
	Request   string      `json:"request,omitempty"` // its id, which is in the daemon's log, too
	Jobs      []Job       `json:"jobs,omitempty" nullable:"false"`
	Target    string      `json:"target,omitempty"`                  // what else it was done to: a vCenter, a token
	Value     string      `json:"value,omitempty"`                   // what it was set to
	Status    int         `json:"status,omitempty"`                  // HTTP's
	Done      int         `json:"done,omitempty"`                    // jobs that it was done to
	Failed    []string    `json:"failed,omitempty" nullable:"false"` // ids of those that it was not done to
	Error     string      `json:"error,omitempty"`
	HeadFault string      `json:"head_fault,omitempty"` // what the log found wrong with its own end when this was written
}

// Job is a job in an entry.
type Job struct {
	ID     string `json:"id,omitempty"`
	VM     string `json:"vm,omitempty"`
	Output string `json:"output,omitempty"`
}

// Hash binds an entry to all before it.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is for encoders.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hexadecimal digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return errors.New("a hash has 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Record is an entry as it is kept.
type Record struct {
	Number int64 // from 1, without gaps
	Hash   Hash
	Data   []byte // the entry's JSON
}

// Entry decodes the record.
func (r Record) Entry() (Entry, error) {
	var e Entry
	if err := json.Unmarshal(r.Data, &e); err != nil {
		return Entry{}, fmt.Errorf("audit entry %d: %w", r.Number, err)
	}
	return e, nil
}

// next is the hash of the record that follows.
func (r Record) next(data []byte) Hash {
	h := sha256.New()
	h.Write([]byte("hyper2kvm audit 1\n"))
	h.Write(r.Hash[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(r.Number)+1)) //nolint:gosec // numbers are not negative
	h.Write(data)
	return Hash(h.Sum(nil))
}

// Store is where records are kept. Every implementation passes the suite of
// package storetest.
type Store interface {
	// Append calls next with the last record, the zero one when there is none,
	// and adds what it returns. Nobody else adds one meanwhile, also no other
	// process. Nothing is added when next fails, and its error is returned.
	Append(ctx context.Context, next func(last Record) (Record, error)) error
	// After returns at most limit records with numbers greater than n, in order.
	After(ctx context.Context, n int64, limit int) ([]Record, error)
	// Before returns at most limit records with numbers less than n, the last
	// first; n 0 is from the end.
	Before(ctx context.Context, n int64, limit int) ([]Record, error)
}
