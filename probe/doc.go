// Package probe finds out what holds at a vSphere: which of the facts that the project
// rests on (docs/vsphere-facts.md), how fast the data comes, and so how exports should
// read there. [Run] asks; what was seen is a [findings.Report], in which nothing tells
// whose vSphere it is.
//
// A probe only reads. What it opens it closes, whatever ends it: an export lease is
// aborted, files on port 902 are closed, the temporary snapshot, which is taken only when
// that is asked for, is removed. Each step has its time, and so has the whole.
//
// # Not promised
//
// A process that is killed takes back nothing. Its lease then ends with its session, or
// by not being renewed, after about five minutes; its snapshot stays, is called
// hyper2kvm-probe-…, and is what `hyper2kvm clean -vm VM -snapshots` lists and removes.
//
// A probe looks at one VM on one host. Another datastore or an older host may answer
// otherwise.
package probe
