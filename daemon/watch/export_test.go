package watch

// SetUsage replaces what asks the operating system.
func (s *Space) SetUsage(usage func(dir string) (free, size int64, err error)) { s.usage = usage }
