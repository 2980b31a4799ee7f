package storetest

import (
	"bytes"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// secrets is the part of the store that looks after sealed passwords.
func (f *fixture) secrets() jobs.Secrets {
	f.Helper()
	s, ok := f.Store.(jobs.Secrets)
	if !ok {
		f.Fatalf("%T is no jobs.Secrets", f.Store)
	}
	return s
}

// createSealed creates jobs that bring a user and a password along.
func (f *fixture) createSealed(ids ...string) {
	f.Helper()
	for _, id := range ids {
		f.must(f.Create(f.Context(), []jobs.NewJob{{Definition: definition(id, ownUser), Secret: []byte("sealed " + id)}}))
	}
}

func resealed(f *fixture) {
	f.createSealed("a", "b", "c")
	f.create(definition("without"))
	broken := errors.New("broken")
	n, err := f.secrets().Reseal(f.Context(), func(sealed []byte) ([]byte, error) {
		if bytes.HasSuffix(sealed, []byte("b")) {
			return nil, broken
		}
		return []byte("lost"), nil
	})
	if n != 0 || !errors.Is(err, broken) {
		f.Errorf("Reseal that fails = %d, %v", n, err)
	}
	seen := 0
	n, err = f.secrets().Reseal(f.Context(), func(sealed []byte) ([]byte, error) {
		seen++
		if bytes.HasSuffix(sealed, []byte("c")) {
			return nil, nil // it is sealed with the new key already
		}
		return bytes.Replace(sealed, []byte("sealed"), []byte("new"), 1), nil
	})
	f.must(err)
	f.equal("passwords", seen, 3)
	f.equal("replaced", n, 2)
	got := map[string]string{}
	for range 4 {
		c := f.claim("owner")
		got[c.Claim.JobID] = string(c.Secret)
	}
	f.equal("secrets", got, map[string]string{"a": "new a", "b": "new b", "c": "sealed c", "without": ""})
}

func secretsAreRead(f *fixture) {
	f.createSealed("a")
	f.create(definition("without"))
	want := func(id, secret string) {
		f.Helper()
		got, err := f.secrets().Secret(f.Context(), id)
		f.must(err)
		f.equal("secret of "+id, string(got), secret)
	}
	want("a", "sealed a")
	want("without", "")
	f.finish(f.claim("owner").Claim, models.StatusFailed)
	want("a", "sealed a")
	_, err := f.secrets().DropSecrets(f.Context(), 0)
	f.must(err)
	want("a", "")
	if _, err := f.secrets().Secret(f.Context(), "none"); !errors.Is(err, jobs.ErrNotFound) {
		f.Errorf("the secret of a job that is not there: %v", err)
	}
}

func secretsAreDropped(f *fixture) {
	f.createSealed("failed", "cancelled", "running", "pending")
	f.create(definition("no password"))
	drop := func(age time.Duration, want int) {
		f.Helper()
		n, err := f.secrets().DropSecrets(f.Context(), age)
		f.must(err)
		f.equal("dropped", n, want)
	}
	f.cancel("cancelled", job.Cancelled{})
	f.finish(f.claim("owner").Claim, models.StatusFailed)
	f.claim("owner")
	f.advance(time.Hour)
	drop(2*time.Hour, 0)
	f.must(f.tryAgain("failed"))
	c := f.claim("owner")
	f.equal("job", c.Claim.JobID, "failed")
	f.equal("secret", string(c.Secret), "sealed failed")
	f.finish(c.Claim, models.StatusFailed)
	drop(time.Hour, 1) // of the cancelled one
	drop(0, 1)
	drop(0, 0)
	for _, id := range []string{"failed", "cancelled"} {
		if err := f.tryAgain(id); !errors.Is(err, jobs.ErrNoPassword) {
			f.Errorf("Retry of %s = %v, want ErrNoPassword", id, err)
		}
		f.equal("status", f.get(id).Status.Final(), true)
	}
	c = f.claim("owner")
	f.equal("job", c.Claim.JobID, "pending")
	f.equal("secret of a job that has not ended", string(c.Secret), "sealed pending")
	f.finish(f.claim("owner").Claim, models.StatusFailed)
	f.must(f.tryAgain("no password"))
}
