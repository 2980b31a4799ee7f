// Package monitor is the screen on which exports move: a line for each VM, one
// for each of its disks while there is room for that, a total, and a log.
//
// It samples a [runs.Group] twice a second and draws what changed. What runs stands
// first, then what failed and what waits; what is done is summed up where there is no
// room for it. The cursor follows what moves until it is moved. With many VMs the list
// scrolls and shows the disks of the VM under the cursor alone; it can be narrowed to
// names or to what failed. The log tells once what repeats.
//
// Ctrl-C asks, stops everything and waits until it is cleaned up; another one does not
// wait. A signal does not ask. Where jobs go on without this program, ctrl-C just
// leaves. The screen ends with a [Closed] message, or is left by a [Detach].
package monitor
