package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
	"unicode"
)

// The parts of an API token, h2k_<id>_<secret><checksum>, in lowercase base32
// of RFC 4648: an id of 40 bits, which is no secret; a secret of 256 random bits; and
// the CRC-32 of everything before it, which tells a mistyped token from a
// revoked one. The regular expression for scanners of secrets is
// h2k_[a-z2-7]{8}_[a-z2-7]{59}.
const (
	TokenPrefix   = "h2k_"
	tokenIDLen    = 8
	secretLen     = 52
	checksumLen   = 7
	tokenLen      = len(TokenPrefix) + tokenIDLen + 1 + secretLen + checksumLen
	tokenIDBytes  = 5
	secretBytes   = 32
	maxTokenNames = 64 // characters of a token's name
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Errors of [Tokens].
var (
	// ErrNoToken: there is no such token, or only a revoked one.
	ErrNoToken = errors.New("no such token")
	// ErrTokenExists: the name belongs to a token that is not revoked.
	ErrTokenExists = errors.New("the name of the token is taken; revoke that one first, or choose another name")
)

// Digest is the SHA-256 of a token, which is all that is kept of it: a secret of
// 256 random bits cannot be guessed from it, so no slow hash is needed.
type Digest [sha256.Size]byte

// Token is what is kept of an API token.
type Token struct {
	ID       string // public part
	Name     string // unique among those that are not revoked
	Role     Role
	Digest   Digest
	Created  time.Time
	Expires  time.Time // zero for never
	Revoked  time.Time // zero when it is not
	LastUsed time.Time // zero before its first use; about ten minutes exact
}

// Tokens keeps the tokens of a daemon. Revoked ones stay, so that the audit log's
// names keep their meaning, and a daemon that had a token never is open again.
// Every implementation passes the suite of package storetest.
type Tokens interface {
	TokenReader
	// Create adds a token, or returns [ErrTokenExists].
	Create(ctx context.Context, t Token) error
	// List returns all tokens in order of creation.
	List(ctx context.Context) ([]Token, error)
	// Revoke marks the token of that name that is not revoked, or returns
	// [ErrNoToken].
	Revoke(ctx context.Context, name string, at time.Time) error
}

// TokenReader is the part of [Tokens] that authentication needs.
type TokenReader interface {
	// ByID returns the token with that public id, revoked or not, or [ErrNoToken].
	ByID(ctx context.Context, id string) (Token, error)
	// Any reports whether there ever was a token.
	Any(ctx context.Context) (bool, error)
	// Used notes that a token was used.
	Used(ctx context.Context, id string, at time.Time) error
}

// NewToken makes a token. The secret is the whole token as its holder sends it;
// it is nowhere else. A zero expires is never.
func NewToken(name string, role Role, now, expires time.Time) (t Token, secret string, err error) {
	if err := checkName(name); err != nil {
		return Token{}, "", err
	}
	if role < Viewer || role > Admin {
		return Token{}, "", fmt.Errorf("role: must be %s", strings.Join(roleNames[Viewer:], ", "))
	}
	if !expires.IsZero() && !expires.After(now) {
		return Token{}, "", errors.New("expires: must be in the future")
	}
	var random [tokenIDBytes + secretBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	id := base32Lower.EncodeToString(random[:tokenIDBytes])
	secret = TokenPrefix + id + "_" + base32Lower.EncodeToString(random[tokenIDBytes:])
	secret += checksum(secret)
	return Token{
		ID: id, Name: name, Role: role, Digest: sha256.Sum256([]byte(secret)),
		Created: now.UTC(), Expires: utc(expires),
	}, secret, nil
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// checkName refuses names that would not read well in a table or a log.
func checkName(name string) error {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }
	if name == "" || len([]rune(name)) > maxTokenNames || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("name: must be 1 to %d characters without spaces", maxTokenNames)
	}
	return nil
}

// checksum is the end of a token.
func checksum(rest string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(rest)))
	return base32Lower.EncodeToString(sum[:])
}

// tokenID returns the public id of what has the shape and the checksum of an API
// token.
func tokenID(token string) (id string, ok bool) {
	if len(token) != tokenLen || !strings.HasPrefix(token, TokenPrefix) {
		return "", false
	}
	rest, sum := token[:tokenLen-checksumLen], token[tokenLen-checksumLen:]
	id, secret, ok := strings.Cut(rest[len(TokenPrefix):], "_")
	if !ok || len(id) != tokenIDLen || len(secret) != secretLen || sum != checksum(rest) {
		return "", false
	}
	return id, true
}
