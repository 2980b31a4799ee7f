package job

import "time"

// Bounds of [Options.ShutdownTimeout].
const (
	DefaultShutdownTimeout = 5 * time.Minute
	maxShutdownTimeout     = 24 * time.Hour
)

// Stops reports whether a VM that runs is stopped before it is exported.
func (o Options) Stops() bool { return o.Shutdown || o.PowerOff }

// ShutdownWait is how long a guest may take to shut down.
func (o Options) ShutdownWait() time.Duration {
	if d, err := time.ParseDuration(o.ShutdownTimeout); err == nil {
		return d
	}
	return DefaultShutdownTimeout // it was validated when the job was taken
}

// power judges what is said of a running VM.
func (v *validator) power(o Options) {
	if o.ShutdownTimeout == "" {
		return
	}
	if !o.Shutdown {
		v.add("options.shutdown_timeout", "needs shutdown")
	}
	if err := CheckTimeout(o.ShutdownTimeout); err != nil {
		v.add("options.shutdown_timeout", "%v", err)
	}
}
