package models

import "time"

// EventType says what an [Event] reports.
type EventType string

// Types of an [Event].
const (
	EventState    EventType = "state"    // the status or the phase changed; kept in the job's log
	EventLog      EventType = "log"      // something a person should know; kept in the job's log
	EventProgress EventType = "progress" // how far the job is; never kept, at most one a second
)

// Event is one entry of a job's event log, or a passing report of progress.
type Event struct {
	// ID counts a job's kept events from 1 without gaps. It is 0 for progress,
	// and for a log event that says what a job waits for which does not run:
	// these are not kept. What a reader resumes from is the last ID that is
	// not 0.
	ID   int64     `json:"id,omitempty"`
	Type EventType `json:"type"`
	Time time.Time `json:"time"`

	Status Status `json:"status,omitempty"` // state: the job's status from now on
	Phase  string `json:"phase,omitempty"`  // state: the phase of a running job
	Error  string `json:"error,omitempty"`  // state: why the job failed or will be tried again

	Level string `json:"level,omitempty"` // log: "info" or "warning"
	File  string `json:"file,omitempty"`  // log: the file it is about, empty when about the whole job
	Text  string `json:"text,omitempty"`  // log

	Progress *Progress `json:"progress,omitempty"` // progress
}
