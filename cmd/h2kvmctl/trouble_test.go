package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

// troubled is a store in trouble, whatever it is asked to keep.
type troubled struct {
	*memory.Store
	trouble atomic.Value // jobs.Trouble
}

func (s *troubled) err() error {
	return &jobs.StoreError{Trouble: s.trouble.Load().(jobs.Trouble), Err: errors.New("/state/jobs.db takes nothing")}
}

func (s *troubled) Create(context.Context, []jobs.NewJob) error       { return s.err() }
func (s *troubled) Check(context.Context) (notes []string, err error) { return nil, s.err() }

func TestTroubleOfTheDaemonsStoreIsToldWithWhatToDo(t *testing.T) {
	t.Parallel()
	store := &troubled{Store: memory.New()}
	d := apitest.StartOn(t, store, api.Options{})
	for _, tt := range []struct {
		trouble jobs.Trouble
		args    string
		want    string
	}{
		{jobs.TroubleFull, "submit -vm /vm/a -output /out", "ERROR submit: /state/jobs.db takes nothing (nothing was stored; try again when there is room)"},
		{jobs.TroubleBusy, "submit -vm /vm/a -output /out", "ERROR submit: /state/jobs.db takes nothing (try again in 5s)"},
		{jobs.TroubleGone, "submit -vm /vm/a -output /out", "ERROR submit: /state/jobs.db takes nothing\n"},
		{jobs.TroubleGone, "status", "ERROR /state/jobs.db takes nothing\n"},
	} {
		store.trouble.Store(tt.trouble)
		var out, errOut bytes.Buffer
		code := run(t.Context(), append([]string{"h2kvmctl", "-daemon", d.URL}, strings.Fields(tt.args)...), nil, &out, &errOut)
		if code != exitUnreachable || !strings.HasPrefix(errOut.String(), tt.want) {
			t.Errorf("%s, %s: exit code %d, %q", tt.trouble, tt.args, code, errOut.String())
		}
		if strings.Contains(out.String(), "SUCCESS") {
			t.Errorf("%s, %s: %s", tt.trouble, tt.args, out.String())
		}
	}
}
