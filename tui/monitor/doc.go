// Package monitor is the screen on which exports move: a line for each VM, one
// for each of its disks while there is room for that, a total, and a log.
//
// It samples a [runs.Group] twice a second and draws what changed. With many VMs
// it scrolls, shows the disks of the VM under the cursor alone, and counts states
// in its title. Keys pause, resume and cancel the VM under the cursor.
//
// Ctrl-C stops everything and waits until it is cleaned up; a second one does not
// wait. Where jobs go on without this program, ctrl-C just leaves. The screen ends
// with a [Closed] message.
package monitor
