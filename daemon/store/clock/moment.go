package clock

import "time"

// Moment is one reading of both clocks.
type Moment struct {
	Now    time.Time // what people read
	Steady time.Time // what claims and delays are measured by
}

// Moment reads both clocks.
func (c Clock) Moment() Moment { return Moment{c.Now(), c.Steady()} }

// Shown is the steady time at as people read it.
func (m Moment) Shown(at time.Time) time.Time { return m.Now.Add(at.Sub(m.Steady)) }
