package monitor

import (
	"errors"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// Cleanup says what was undone when a job was cancelled, judged by how far it
// had come.
func Cleanup(s runs.Status) string {
	if s.Started.IsZero() {
		return "cancelled before it began; nothing was changed"
	}
	var parts []string
	switch s.Reached {
	case progress.Converting, progress.Landing, progress.Finishing:
		parts = append(parts, "the export is finished and stays", "what follows it is undone")
	case progress.Preparing, progress.Exporting, progress.Verifying, progress.Describing:
		parts = append(parts, "the export lease is aborted")
		if s.Def.Options.Snapshot {
			parts = append(parts, "the temporary snapshot, if one was taken, is removed")
		}
		if s.Def.Options.RemoveCDROM {
			parts = append(parts, "CD/DVD drives are put back")
		}
		var cancelled job.Cancelled
		if errors.As(s.Err, &cancelled) && !cancelled.KeepParts {
			parts = append(parts, "part files are removed")
		} else {
			parts = append(parts, "what is verified or checkpointed is kept for the next run")
		}
	default:
		parts = append(parts, "nothing was changed at the vCenter")
	}
	return "cancelled: " + strings.Join(parts, ", ")
}
