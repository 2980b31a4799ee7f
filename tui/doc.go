// Package tui is the interactive command: connect, choose VMs by typing, choose
// options, see what will happen, watch it move.
//
// Connecting is plain output and questions, which stay in the terminal's history:
// banner, version, a box that says where one is connected. Then one full-screen
// program takes over, whose pages are packages of their own: picker, form, a last
// page with the commands and the job file that mean the same, and monitor. One can
// go back at any step. When it ends, what landed where is printed below.
//
// The pages know neither vSphere sessions nor daemons: [Run] gives them functions,
// which they call in commands, never while drawing. With a daemon the VMs come
// from its inventory, the jobs are submitted to it, and leaving the screen leaves
// them running; [Watch] comes back to them.
//
// Passwords are asked for without echo, used, and kept nowhere. A certificate that
// no authority vouches for is shown with its thumbprint; once accepted, that one
// and no other is accepted of the host (see package profile).
package tui
