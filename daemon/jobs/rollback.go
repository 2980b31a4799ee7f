package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// ErrWayBack: the job is a way back itself.
var ErrWayBack = errors.New("the job is the way back from another one")

// RollBack queues the way back from a job that has ended, and returns its id. It is a job
// of its own, which runs, is followed and goes on after a crash like any other: see
// [job.Rollback]. A way back from that job that is queued, runs, or has been
// gone is the one that is meant; another one is only made after one that failed or was
// cancelled.
//
// The password is that of a job that brought its own user along, since those are not kept.
// The error is [ErrNotFound], [ErrNotFinished], [ErrWayBack], [ErrNoPassword], why the
// job is not taken (a [Rejection]), or the store's.
func (m *Manager) RollBack(ctx context.Context, id string, how job.Rollback, password string) (string, error) {
	of, err := m.Get(ctx, id)
	switch {
	case err != nil:
		return "", err
	case of.Definition.Options.Back:
		return "", ErrWayBack
	case !of.Status.Final():
		return "", ErrNotFinished
	case of.Definition.Username != "" && password == "":
		return "", ErrNoPassword
	}
	def := wayBack(of.Definition, how)
	if def.Username != "" {
		def.Password = password
	}
	for n := 1; ; {
		def.ID = wayBackID(id, n)
		there, err := m.Get(ctx, def.ID)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return "", err
		case !there.Definition.Options.Back, there.Status == models.StatusFailed, there.Status == models.StatusCancelled:
			n++
			continue
		default:
			return def.ID, nil
		}
		s, err := m.Submit(ctx, []job.Definition{def}, true)
		switch {
		case err != nil:
			return "", err
		case len(s.IDs) == 1:
			return def.ID, nil
		case !errors.Is(s.Rejected[0], ErrExists): // else somebody was quicker: that is the one
			return "", s.Rejected[0]
		}
	}
}

// wayBack is the definition of the way back from a job: at the same vCenter, in the same
// directory, and with the same libvirt.
func wayBack(of job.Definition, how job.Rollback) job.Definition {
	def := of
	how.Back = true
	def.Options = job.Options{Landing: job.Landing{Libvirt: of.Options.Libvirt}, Rollback: how}
	return def
}

// maxWayBackOf is how long the id of a job may be for that of its way back to begin with
// it, in bytes.
const maxWayBackOf = 48

// wayBackID is the id of the n-th way back from a job.
func wayBackID(of string, n int) string {
	if len(of) > maxWayBackOf {
		sum := sha256.Sum256([]byte(of))
		of = hex.EncodeToString(sum[:16])
	}
	if n == 1 {
		return of + "-rollback"
	}
	return fmt.Sprintf("%s-rollback-%d", of, n)
}
