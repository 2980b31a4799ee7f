package secret

import "context"

// SetRun replaces what runs commands.
func (r *Reader) SetRun(run func(ctx context.Context, argv []string) (string, error)) { r.run = run }
