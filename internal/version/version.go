// Package version tells which build of hyper2kvm this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X …/internal/version.version=1.2.3".
var version string

// String returns the version number, such as "0.1.0-4-gabcdef"; "devel" for a
// build that was given none.
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// Line returns what `-version` prints after the program's name.
func Line() string {
	return fmt.Sprintf("%s (%s, %s/%s)", String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
