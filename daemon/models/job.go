// Package models holds what only the REST API speaks: the bodies of requests and
// answers, a job with its status and progress, and its events. The definition of a
// job and its result are package job's. The server and the Go client share it, so
// that neither can drift from the other. Field names are a contract with users'
// scripts: fields may be added, none changes its meaning. Times are RFC 3339, sizes
// bytes.
package models

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// Status is where a job stands.
type Status string

// Statuses of a job. Completed, failed and cancelled are final.
const (
	StatusPending   Status = "pending"
	StatusRunning   Status = "running"
	StatusCompleted Status = "completed"
	StatusFailed    Status = "failed"
	StatusCancelled Status = "cancelled"
)

// Known reports whether s is one of the statuses.
func (s Status) Known() bool {
	return s == StatusPending || s == StatusRunning || s.Final()
}

// Final reports whether a job in status s has ended.
func (s Status) Final() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled
}

// Job is a job as the API gives it back. Result, Error, StartedAt and
// CompletedAt are there from the beginning, as null until there is something to
// tell.
type Job struct {
	Definition  job.Definition `json:"definition"`
	Status      Status         `json:"status"`
	Progress    *Progress      `json:"progress"`
	Result      *job.Result    `json:"result"`
	Error       string         `json:"error" nullable:"true"`
	StartedAt   *time.Time     `json:"started_at"`
	CompletedAt *time.Time     `json:"completed_at"`
	UpdatedAt   time.Time      `json:"updated_at"`

	Attempts    int        `json:"attempts,omitempty"`        // failed attempts so far
	NextAttempt *time.Time `json:"next_attempt_at,omitempty"` // pending after a failure: when it is tried again
	Cancelling  bool       `json:"cancelling,omitempty"`      // a cancel was asked for and is not done yet

	// WaitingFor says what a job waits for that is pending or being cancelled,
	// as "waiting for vCenter prod since 2026-01-02T03:04:05Z: …".
	WaitingFor string `json:"waiting_for,omitempty"`
}

// MarshalJSON writes an empty Error as null.
func (j Job) MarshalJSON() ([]byte, error) {
	type fields Job
	shown := struct {
		fields
		Error *string `json:"error"`
	}{fields: fields(j)}
	if j.Error != "" {
		shown.Error = &j.Error
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // left to whoever writes the whole
	err := enc.Encode(shown)
	return b.Bytes(), err
}

// Progress is how far a job is; present in every job.
type Progress struct {
	Phase              string  `json:"phase"`
	CurrentFile        string  `json:"current_file"`
	FilesDownloaded    int     `json:"files_downloaded"`
	TotalFiles         int     `json:"total_files"`
	BytesDownloaded    int64   `json:"bytes_downloaded"`           // off the wire
	TotalBytes         int64   `json:"total_bytes"`                // bytes of data to be moved, as far as that is known
	PercentComplete    float64 `json:"percent_complete"`           // 0..100, by what of that is moved
	EstimatedRemaining string  `json:"estimated_remaining"`        // Go duration, empty when it cannot be told
	BytesPerSecond     int64   `json:"bytes_per_second,omitempty"` // off the wire, smoothed over some seconds; 0 while nothing comes
	Activity           string  `json:"activity,omitempty"`         // what the run waits for or reads again, while no counter moves
}

// FileProgress is how far one file of a running job is. Sizes are bytes.
type FileProgress struct {
	Name            string  `json:"name"`
	State           string  `json:"state"`            // waiting, active, retrying, complete, failed
	Bytes           int64   `json:"bytes"`            // moved, of Total
	Total           int64   `json:"total"`            // to be moved, as far as that is known; negative when unknown
	PercentComplete float64 `json:"percent_complete"` // 0..100
	Retries         int64   `json:"retries"`
	Cause           string  `json:"cause,omitempty"` // of the latest retry, where it is known
}
