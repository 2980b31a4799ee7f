// Package picker is the screen on which one chooses VMs: a search box, a list
// that shows only what is on the screen however long it is, and a pane with the
// details of the VM under the cursor.
//
// What is typed goes to the search, at once and whole, however fast it comes.
// Space, which a search of several words needs, marks a VM while the search is
// empty or the cursor keys were used last; tab always does. See package fuzzy
// for what a search finds. Besides names it looks at path, guest, host,
// datastores, and the words is:selected, is:on, is:off, is:suspended, is:template,
// is:snapshot, is:bios, is:efi and is:down.
//
// VMs stand in the natural order of their names until something is searched for or
// they are sorted otherwise. The name has the first claim on the width; where it is
// too long for the screen, its middle is missing.
//
// The picker asks nothing of vSphere itself: it calls Options.Inspect for a VM on
// which the cursor has rested, and takes an [Inspected] as the answer. It ends
// with a [Chosen] or a [Left] message and resumes from where it was when it is
// shown again.
package picker
