package config

// Dashboard are the pages below /ui/.
type Dashboard struct {
	Enabled *bool `yaml:"enabled"` // nil is true
}

// On reports whether there is a dashboard.
func (d Dashboard) On() bool { return d.Enabled == nil || *d.Enabled }
