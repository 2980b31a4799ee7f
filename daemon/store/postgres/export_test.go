package postgres

import (
	"context"
	"time"
)

// Shifted are options with clocks that are off the server's.
func (o Options) Shifted(shift func() (now, steady time.Duration)) Options {
	o.shift = shift
	return o
}

// URL is where the store is.
func (s *Store) URL() string { return s.o.URL }

// Exec runs a statement as any program could.
func (s *Store) Exec(ctx context.Context, statement string) error {
	_, err := s.pool.ExecContext(ctx, statement)
	return err
}
