package jobs

import (
	"context"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Resumer is a [Runner] that can tell whether a run goes on from an earlier one, without
// asking vSphere.
type Resumer interface {
	// Resumes reports whether what an earlier run of the job has left is reached from here: a
	// ledger, or the finished export. An error says that it cannot be told.
	Resumes(ctx context.Context, def job.Definition) (bool, error)
}

// sayWhereItGoesOn tells in the log of a job that another daemon had before, or that was
// left by one that died, who that was, and whether the job goes on from there or begins
// anew. How much it goes on with, the run says itself.
func (e *execution) sayWhereItGoesOn(ctx context.Context, def job.Definition) {
	here := e.m.member.as().name()
	elsewhere := e.claimed.Before != "" && e.claimed.Before != here
	if e.claimed.Deaths == 0 && !elsewhere {
		return
	}
	level := progress.Info
	said := e.claimed.whatBecame()
	resumer, ok := e.m.runner.(Resumer)
	found, err := false, error(nil)
	if ok {
		found, err = resumer.Resumes(ctx, def)
	}
	below := "below " + def.OutputPath
	switch {
	case !ok || err != nil:
		level = progress.Warning
		said += "; the job goes on from its ledger " + below + " where that is reached from here, and begins anew otherwise"
		if err != nil {
			said += fmt.Sprintf(" (it cannot be told yet: %v)", err)
		}
	case found:
		said += fmt.Sprintf("; the job goes on at daemon %s from its ledger %s", here, below)
	case e.claimed.Job.Progress.BytesDownloaded == 0 && e.claimed.Job.Progress.PercentComplete == 0 && e.claimed.Deaths == 0:
		// A person may have had it tried again, which forgets how far it was.
		said += fmt.Sprintf("; the job begins at daemon %s: nothing that it could go on from is reachable from here %s", here, below)
	case e.claimed.Job.Progress.BytesDownloaded == 0 && e.claimed.Job.Progress.PercentComplete == 0:
		said += fmt.Sprintf("; the job begins at daemon %s: nothing had been fetched yet", here)
	case elsewhere:
		level = progress.Warning
		said += fmt.Sprintf("; the job begins anew at daemon %s: the part files of daemon %s %s are not reachable from here", here, e.claimed.Before, below)
	default:
		level = progress.Warning
		said += fmt.Sprintf("; the job begins anew: no part files of it are left %s", below)
	}
	e.tracker.Event(level, "", said)
	e.log.Info("the job was at another run before", "before", e.claimed.Before, "deaths", e.claimed.Deaths, "resumes", found)
}

// whatBecame says what became of the run before. One that ended in good order was handed
// back, or had failed: the log of the job has that.
func (c Claimed) whatBecame() string {
	who := "the daemon that ran this job"
	if c.Before != "" {
		who = "daemon " + c.Before + ", which ran this job,"
	}
	at := ""
	if p := c.Job.Progress; p.PercentComplete > 0 {
		at = fmt.Sprintf(" at %.0f%%", p.PercentComplete)
	}
	if c.Deaths == 0 {
		return who + " released it" + at
	}
	return who + " died" + at + ", or was cut off from the database"
}

// name is what people call a daemon: its host, and its id.
func (m Member) name() string {
	if m.Host == "" {
		return m.ID
	}
	return fmt.Sprintf("%s (%s)", m.Host, m.ID)
}
