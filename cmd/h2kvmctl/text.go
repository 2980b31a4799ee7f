package main

import (
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// shortID is how tables show an id.
func shortID(id string) string {
	id = display.SafeText(id)
	if r := []rune(id); len(r) > 8 {
		return string(r[:8])
	}
	return id
}

// pathWidth is how much of a VM's path a table shows, in characters.
const pathWidth = 30

// shortPath drops the head of a long path: its tail tells VMs apart.
func shortPath(p string) string {
	r := []rune(display.SafeText(p))
	if len(r) <= pathWidth {
		return string(r)
	}
	return "..." + string(r[len(r)-pathWidth+3:])
}

const timeLayout = "2006-01-02 15:04:05"

// when is a time for a table.
func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Local().Format(timeLayout)
}
