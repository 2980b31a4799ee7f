package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

// Errors of [Open] that another try does not mend.
var (
	// ErrURL: the URL is none of a PostgreSQL database.
	ErrURL = errors.New("the URL of the store cannot be used")
	// ErrUnfit: the server or the database lacks what is needed.
	ErrUnfit = errors.New("the database cannot be used")
	// ErrNewerSchema: a later version of this program has made the tables.
	ErrNewerSchema = errors.New("the database was made by a newer version of this program")
	// ErrOlderSchema: an earlier version has, and this is a command beside daemons.
	ErrOlderSchema = errors.New("the database was made by an older version of this program")
)

// Troubles that the server does not name itself.
var (
	errSlow             = errors.New("it has not answered in time")
	errBroken           = errors.New("the connection was broken")
	errUnknown          = errors.New("the connection was broken in the midst of a commit, and what became of it cannot be told")
	errStandby          = errors.New("it is a standby, which only a failover makes writable")
	errReadOnlyDatabase = errors.New("default_transaction_read_only is on for this user or database")
)

// passwordError is that the password could not be had.
type passwordError struct{ err error }

func (e *passwordError) Error() string { return "password: " + e.err.Error() }
func (e *passwordError) Unwrap() error { return e.err }

// code is the server's code (SQLSTATE) for an error, "" when it gave none.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// answered reports whether the server itself has refused: what it was asked for was
// not done.
func answered(err error) bool { return code(err) != "" && !broken(err) }

// passing reports whether another try may succeed.
func passing(err error) bool {
	switch code(err) {
	case "40001", "40P01": // other transactions
		return true
	}
	return broken(err)
}

// broken reports whether an error is of the connection.
func broken(err error) bool {
	var refused *passwordError
	if errors.As(err, &refused) || errors.Is(err, errUnknown) {
		return false
	}
	if c := code(err); c != "" {
		// The server ends it: by hand, because it stops, or because another process
		// of it has crashed; or it is just starting.
		return strings.HasPrefix(c, "08") || c == "57P01" || c == "57P02" || c == "57P03" || c == "57P05" || c == "25P03"
	}
	var network net.Error
	var connect *pgconn.ConnectError
	if errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err) {
		return true
	}
	for _, is := range []error{errBroken, driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// explain puts errors that a person can act on in terms of [jobs.StoreError].
func (d *database) explain(ctx context.Context, err error) error {
	if err == nil || errors.As(err, new(*jobs.StoreError)) {
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return err // whoever asked has given up
	}
	c := code(err)
	switch {
	case errors.As(err, new(*passwordError)):
		return d.trouble(jobs.TroubleDenied, "cannot be opened: its %w", err)
	case c == "28P01":
		if d.o.Refused != nil {
			d.o.Refused()
		}
		return d.trouble(jobs.TroubleDenied, "refuses the password: %w", err)
	case strings.HasPrefix(c, "28"):
		return d.trouble(jobs.TroubleDenied, "refuses the login: look at the user, its password and the server's pg_hba.conf: %w", err)
	case c == "3D000":
		return d.trouble(jobs.TroubleGone, "is not there: make it with CREATE DATABASE … OWNER %s: %w", d.config.User, err)
	case c == "42501" || c == "3F000":
		return d.trouble(jobs.TroubleDenied, "refuses it: the user has no right to it; let it own the database: %w", err)
	case c == "42P01" || c == "42703":
		return d.trouble(jobs.TroubleGone, "lacks tables that it had: restore it from a backup: %w", err)
	case c == "25006":
		d.dropIdle() // so that the next try finds the server that is writable now
		return d.readOnly(err)
	case c == "53100":
		return d.trouble(jobs.TroubleFull, "has no space left: make room at its server: %w", err)
	case strings.HasPrefix(c, "53") || strings.HasPrefix(c, "57014") || c == "55P03" || c == "40P01" || c == "40001":
		return d.trouble(jobs.TroubleBusy, "is busy: %w", err)
	case strings.HasPrefix(c, "XX") || strings.HasPrefix(c, "58"):
		return d.trouble(jobs.TroubleBroken, "cannot be read or written: its server's log may say why: %w", err)
	case ctx.Err() != nil:
		return d.trouble(jobs.TroubleBusy, "does not answer: %w: %w", errSlow, ctx.Err())
	case errors.Is(err, errUnknown):
		return d.trouble(jobs.TroubleAway, "was lost: %w", err)
	case broken(err):
		return d.trouble(jobs.TroubleAway, "cannot be reached: is the server up, and the way to it open? %w", err)
	}
	return err
}

func (d *database) readOnly(err error) error {
	return d.trouble(jobs.TroubleReadOnly, "cannot be written: %w; with several servers, name them all in the URL (host1,host2)", err)
}

func (d *database) trouble(t jobs.Trouble, format string, args ...any) error {
	return &jobs.StoreError{Trouble: t, Err: fmt.Errorf("the database "+d.name+" "+format, args...)}
}
