package landing

import (
	"path/filepath"
	"strings"
	"time"
)

// Plan is one VM that is to be landed.
type Plan struct {
	Target
	Domain string  // its name at libvirt, if it is free
	UUID   string  // the domain's; "" when it has none yet
	Images []Image // in the order of the domain's disks

	// Networks are those that the domain's cards are to be on, as a job's network map
	// writes them; Unmapped are port groups for which it has none.
	Networks, Unmapped []string

	UEFI, SecureBoot bool
	TPM              bool // the guest wants one; it gets a fresh one

	// Patience is how long a guest that was started may take to answer; 0 is five minutes.
	Patience time.Duration

	// AtMost and AtLeast are the bytes that the images take of the pool. Once the
	// images are there, they tell themselves.
	AtMost, AtLeast int64
}

// Image is a finished image.
type Image struct {
	Path   string // absolute
	Format string // "raw" or "qcow2"
}

// Problem is something that is in the way of a landing, or that a person should know
// before it.
type Problem struct {
	Fatal bool
	Text  string
	Hint  string // what to do about it
}

// Teller hears what goes on. Every field is to be set.
type Teller struct {
	Warn func(text string)                     // what did not come out as it was
	At   func(image string, done, total int64) // bytes of an image that is copied; often
	Wait func(text string) (over func())       // what is waited for
}

// suffixed is a name with -2, -3, … behind it, before the extension of a file.
func suffixed(name string, n int, file bool) string {
	if n < 2 {
		return name
	}
	ext := ""
	if file {
		ext = filepath.Ext(name)
	}
	return strings.TrimSuffix(name, ext) + "-" + itoa(n) + ext
}
