package migrate

import (
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// outage shows what a run waits for while its vCenter is away.
type outage struct {
	r    *run
	also func(vsphere.Outage) // who else wants to know; may be nil

	mu    sync.Mutex
	shown *progress.Activity
}

// tell is a [vsphere.Config.OnOutage].
func (o *outage) tell(out vsphere.Outage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.shown != nil {
		o.shown.End()
		o.shown = nil
	}
	waited := time.Since(out.Since).Round(time.Second)
	switch {
	case !out.Back:
		o.shown = o.r.t.Begin("waiting for " + out.Host + " since " + out.Since.Format(time.TimeOnly) + ": " + out.Reason)
		o.r.t.Event(progress.Warning, "", "no answer from "+out.Host+" since "+out.Since.Format(time.TimeOnly)+": "+out.Reason+"; waiting for it")
	case out.GaveUp:
		o.r.t.Event(progress.Warning, "", "still no answer from "+out.Host+" after "+waited.String())
	default:
		o.r.t.Event(progress.Info, "", out.Host+" answers again, after "+waited.String())
	}
	if o.also != nil {
		o.also(out)
	}
}
