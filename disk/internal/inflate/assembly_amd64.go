//go:build !purego

package inflate

import (
	"os"
	"sync"

	"golang.org/x/sys/cpu"
)

// assembly is which loops in assembly are used.
type assembly struct{ loop, adler bool }

// inUse is decided once, at first use.
var inUse = sync.OnceValue(func() assembly {
	if switchedOff(os.Getenv(Switch)) {
		return assembly{}
	}
	return assembly{loop: cpu.X86.HasBMI2, adler: cpu.X86.HasAVX2}
})

// switchedOff tells whether a value of Switch turns the assembly off.
func switchedOff(value string) bool { return value != "" && value != "auto" }
