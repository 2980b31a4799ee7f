// Package tilde expands the ~ at the beginning of a path. A shell does that only
// where nothing is quoted: not in '~/vms', not in -output=~/vms, not in a job file,
// and not in what is typed into a form. Without it a directory named ~ is made.
package tilde

import (
	"fmt"
	"os"
	"os/user"
	"strings"
)

// Expand returns path with a leading ~ replaced by this user's home directory, and
// a leading ~name by the home directory of that user. A ~ anywhere else stays, as
// in a shell; ./~ is the way to write a file that is really called so. The error
// says whose home directory is not known.
func Expand(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok {
		return path, nil
	}
	name, below := rest, ""
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < 0x80 && os.IsPathSeparator(uint8(r)) }); i >= 0 { //nolint:gosec // below 0x80
		name, below = rest[:i], rest[i:]
	}
	home, err := homeOf(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w; write the directory out, or ./~ for a file of that name", path, err)
	}
	return strings.TrimRight(home, "/") + below, nil
}

// homeOf returns the home directory of a user; "" is this one.
func homeOf(name string) (string, error) {
	if name == "" {
		return os.UserHomeDir()
	}
	u, err := user.Lookup(name)
	if err != nil {
		return "", fmt.Errorf("no user %q is known", name)
	}
	return u.HomeDir, nil
}
