// Package clock is the time that the stores keep: one that people read, and one
// that claims and delays are measured by.
//
// The wall clock jumps: it is set by hand, by NTP after a start with a wrong
// battery clock, by a resumed virtual machine. A claim that is measured by it
// would end too early or last an hour too long. So claims and delays are
// measured by a steady clock, which starts as the wall clock and from then on
// goes on evenly, as long as the process lives. What a steady time means to
// people is told by [Clock.Shown].
//
// Not promised: that the steady times of two processes agree. A store that keeps
// them in a file must correct them when it is opened.
package clock

import "time"

// Clock tells the time. Make it with [New].
type Clock struct {
	wall  func() time.Time
	start time.Time // by the wall clock
	began time.Time // the same moment, with the reading that does not jump
}

// New returns a clock that starts now. wall is the wall clock; nil means
// time.Now.
func New(wall func() time.Time) Clock {
	if wall == nil {
		wall = time.Now
	}
	return Clock{wall: wall, start: wall().Round(0), began: time.Now()}
}

// Now is the time that people read, in UTC and in the resolution that every
// store keeps: milliseconds.
func (c Clock) Now() time.Time { return kept(c.wall()) }

// Steady is the time that claims and delays are measured by.
func (c Clock) Steady() time.Time { return kept(c.start.Add(time.Since(c.began))) }

// Shown is the steady time at as the wall clock will show it.
func (c Clock) Shown(at time.Time) time.Time { return c.Now().Add(at.Sub(c.Steady())) }

func kept(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
