// Package runs runs the exports of several VMs, a bounded number of them at a
// time, and lets a screen look at them and steer them. It draws nothing.
//
// A [Group] holds the jobs and their states. What runs a job is a [Backend]: this
// process ([Local]) or a daemon ([Daemon]). Either counts into a progress.Tracker
// per job, which the screen samples; nobody waits for a reader.
//
// Pausing holds what moves. In this process the job's bandwidth goes down to
// almost nothing: its lease is kept alive, its stream stays where it is, and
// resuming continues at the next byte within a second or so. The VM stays locked
// meanwhile, and a host that gives up on a connection from which nobody reads
// costs a new start of that disk, as any cut does. A daemon's job is cancelled
// with its part files kept, and tried again when resumed: verified disks stay; a
// disk that comes as one plain stream starts again (F-NFC-9). A paused job does
// not keep others from running.
//
// Not promised: that jobs of this process outlive it.
package runs
