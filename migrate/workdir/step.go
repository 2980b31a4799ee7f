package workdir

import "encoding/json"

// Step is a step that follows an export, as the ledger has it from before it begins
// until it is known to be done or undone.
type Step struct {
	Name  string          `json:"name"`
	Asked string          `json:"asked"`           // what the job asks of it
	Notes json.RawMessage `json:"notes,omitempty"` // what it has changed, or is about to
	Files []string        `json:"files,omitempty"` // in the work directory: kept for whoever makes an end of it
}

// StepDone is a step that has been done with an export.
type StepDone struct {
	Name  string `json:"name"`
	Asked string `json:"asked"` // what the job asked of it
}

// Did reports whether the export has had that step, as it is asked for.
func (r Receipt) Did(name, asked string) bool {
	for _, s := range r.Steps {
		if s.Name == name && s.Asked == asked {
			return true
		}
	}
	return false
}

// Step returns the step that a run has begun and that has no end, if there is one.
func (w *Dir) Step() (s Step, begun bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger.Step == nil {
		return Step{}, false
	}
	return *w.ledger.Step, true
}

// NoteStep records what a step has changed, or is about to.
func (w *Dir) NoteStep(s Step) error {
	return w.update(func(l *ledger) { l.Step = &s })
}

// StrikeStep records that the step is done, or undone.
func (w *Dir) StrikeStep() error {
	return w.strike(func(l *ledger) { l.Step = nil })
}

// WriteReceipt replaces the receipt by one that has the files of r as they are now.
func (w *Dir) WriteReceipt(r *Receipt) error {
	r.Result.TotalSize = 0
	for i := range r.Files {
		info, err := w.out.Stat(r.Files[i].Name)
		if err != nil {
			return err
		}
		r.Files[i].Size = info.Size()
		r.Result.TotalSize += info.Size()
	}
	written := *r
	written.Result.Earlier = false // that is said of a run, not of an export
	return w.writeJSON(w.receipt(), written)
}
