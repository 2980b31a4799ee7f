package job

// Converted is what a guest conversion came to.
type Converted struct {
	By string `json:"by"` // the program, as "virt-v2v-in-place 2.2.0"
	// Disks and Cards say what the guest has drivers for now, and the domain has it on:
	// "virtio", or "kept" for the nearest equal of what the guest had.
	Disks string `json:"disks"`
	Cards string `json:"cards"`
	Log   string `json:"log"` // absolute path of what the program has said
}

// Kinds of hardware of a [Converted].
const (
	HardwareVirtio = "virtio"
	HardwareKept   = "kept"
)
