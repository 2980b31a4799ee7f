package models

import (
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// DaemonState is what a daemon of several on one store does.
type DaemonState string

// States of a [Daemon].
const (
	DaemonActive   DaemonState = "active"   // it claims and runs jobs
	DaemonDraining DaemonState = "draining" // it claims none, and still runs some
	DaemonDrained  DaemonState = "drained"  // it claims none, and runs none
	DaemonDead     DaemonState = "dead"     // it has not been heard of; what it ran is run by others
)

// Daemon is one of the daemons on a store.
type Daemon struct {
	ID      string      `json:"id" doc:"Of the daemon, also after a restart"`
	Host    string      `json:"host" doc:"Name of its machine"`
	Version string      `json:"version"`
	Labels  job.Labels  `json:"labels" nullable:"false" doc:"What jobs can ask for, as site: dc1"`
	State   DaemonState `json:"state" enum:"active,draining,drained,dead"`
	Drain   string      `json:"drain,omitempty" enum:"now,wait" doc:"What it is asked for, also when it is dead: it hands its jobs back now, or waits until they have ended"`
	Self    bool        `json:"self" doc:"True for the daemon that answers"`

	StartedAt     time.Time `json:"started_at"`
	LastHeartbeat time.Time `json:"last_heartbeat" doc:"By the clock of the store"`

	JobIDs []string `json:"job_ids" nullable:"false" doc:"The jobs that it runs"`
}

// Daemons is the answer to GET /daemons, in the order of host and id.
type Daemons struct {
	Daemons   []Daemon  `json:"daemons" nullable:"false"`
	Timestamp time.Time `json:"timestamp"`
}

// Drain is the body of POST /daemons/{id}/drain.
type Drain struct {
	Wait bool `json:"wait,omitempty" doc:"True lets the jobs end that run; otherwise they are handed back, and another daemon goes on with them"`
}
