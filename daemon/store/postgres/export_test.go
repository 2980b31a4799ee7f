package postgres

import "time"

// Shifted are options with clocks that are off the server's.
func (o Options) Shifted(shift func() (now, steady time.Duration)) Options {
	o.shift = shift
	return o
}
