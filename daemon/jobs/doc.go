// Package jobs runs exports as jobs that survive anything.
//
// A [Manager] keeps nothing that matters in memory: a job lives in a [Store],
// and whoever runs it has a claim on it there. The manager's loop claims jobs
// while the limits leave room, in the order that the store defines (priority,
// then the vCenter served longest ago, then age), and starts a goroutine for
// each. That goroutine calls the [Runner] and, beside it, samples the run's
// counters once a second for watchers, writes to the store on each change of
// phase and on a heartbeat, and thereby extends the claim. Nothing is written
// per byte.
//
// The claim carries an epoch that grows with every claim. A daemon that dies
// leaves a claim that runs out (or that the store knows to be dead, when it
// has only one daemon), the job is claimed again, and whatever the former
// owner still writes is refused with [ErrFenced], upon which it stops. The run
// itself resumes from the checkpoint it finds on disk; that is the Runner's
// part.
//
// A run ends early for one of three reasons, reported by context.Cause:
// [job.Cancelled], [job.ErrShutdown], [job.ErrClaimLost]. In each case
// the goroutine has ended before the status changes. A job that was cancelled
// while nobody ran it, but that did run before, is claimed once more for
// [Runner.CleanUp], which removes what is left.
//
// What jobs that have ended still owe at vSphere, of this daemon or an earlier
// one, is put back beside that, one job at a time, when the Runner is a
// [Settler].
//
// Daemons that share a store tell each other what they change ([Notices]), so that
// each answers for every job at once. A run that cannot renew its claim in a shared
// store ends before the claim does.
//
// Not promised: that a Runner is called only once at a time across daemons
// whose clocks or store connections fail for longer than a claim. It is told
// through its context, and its late writes to the store are refused, but what
// it does elsewhere before it looks is its own.
package jobs
