package main

import (
	"bytes"
	"encoding/json"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// jobList prints jobs that come page by page: JSON as it comes, a table at the
// end. It keeps of a job only what the table shows.
type jobList struct {
	*app
	rows     [][]string
	failures [][2]string // id and reason
	waiting  []string    // what jobs wait for, each once
	waiters  map[string]int
	shown    int
	tail     models.QueryTail // of all pages
}

// add takes a page.
func (l *jobList) add(page models.QueryResult) error {
	if l.tail.Timestamp.IsZero() {
		l.tail = page.QueryTail
	}
	l.tail.NextCursor = page.NextCursor
	for _, j := range page.Jobs {
		l.shown++
		if l.JSON {
			if err := l.printJSON(j); err != nil {
				return err
			}
			continue
		}
		l.rows = append(l.rows, jobRow(j))
		if j.WaitingFor != "" {
			l.waits(j.WaitingFor)
		} else if j.Error != "" {
			l.failures = append(l.failures, [2]string{shortID(j.Definition.ID), display.SafeText(j.Error)})
		}
	}
	return nil
}

// waits counts what a job waits for: in an outage many say the same.
func (l *jobList) waits(text string) {
	if l.waiters == nil {
		l.waiters = make(map[string]int)
	}
	if l.waiters[text] == 0 {
		l.waiting = append(l.waiting, text)
	}
	l.waiters[text]++
}

// end prints what comes after the last page.
func (l *jobList) end() error {
	l.tail.Total = max(l.tail.Total, l.shown) // ids are asked for in parts
	if l.JSON {
		return l.endJSON()
	}
	l.Heading("Jobs")
	if l.shown == 0 {
		l.Info("No jobs found")
		return nil
	}
	header := []string{"Job ID", "Name", "VM Path", "Status", "Progress", "Started"}
	if err := l.Table(append([][]string{header}, l.rows...), true); err != nil {
		return err
	}
	for _, f := range l.failures {
		l.Warning("%s: %s", f[0], f[1])
	}
	for _, text := range l.waiting {
		l.Warning("%d job(s): %s", l.waiters[text], display.SafeText(text))
	}
	l.Success("Found %d job(s), %d shown", l.tail.Total, l.shown)
	if l.tail.NextCursor != "" {
		l.Info("More with -cursor %s", display.SafeText(l.tail.NextCursor))
	}
	return nil
}

func jobRow(j models.Job) []string {
	return []string{
		shortID(j.Definition.ID), display.SafeText(j.Definition.Name), shortPath(j.Definition.VMPath),
		display.SafeText(string(j.Status)), jobProgress(j), when(j.StartedAt),
	}
}

// jobProgress is how far a job is, and whether it waits for its vCenter; for
// which, stands below the table.
func jobProgress(j models.Job) string {
	switch {
	case j.WaitingFor == "":
		return progressText(j.Progress)
	case j.Cancelling:
		return "cancelling, waiting for vCenter"
	}
	return "waiting for vCenter"
}

// printJSON prints a job as an element of the answer that one call for all of
// them would have had.
func (l *jobList) printJSON(j models.Job) error {
	before := ",\n    "
	if l.shown == 1 {
		before = "{\n  \"jobs\": [\n    "
	}
	text, err := indented(j, "    ")
	if err != nil {
		return err
	}
	_, err = l.Out.Write(append([]byte(before), text...))
	return err
}

// endJSON ends the answer that printJSON began.
func (l *jobList) endJSON() error {
	if l.shown == 0 {
		return l.PrintJSON(models.QueryResult{Jobs: []models.Job{}, QueryTail: l.tail})
	}
	text, err := indented(l.tail, "")
	if err != nil {
		return err
	}
	_, err = l.Out.Write(append([]byte("\n  ],"), append(text[1:], '\n')...)) // without its brace
	return err
}

// indented is v as the printer writes JSON, after the first line behind prefix.
func indented(v any, prefix string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent(prefix, "  ")
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
