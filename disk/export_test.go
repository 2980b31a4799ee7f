package disk

import "github.com/hyper2kvm/hyper2kvm/internal/directio"

// CreateRawOver makes a raw image in an empty file that a test lets fail.
func CreateRawOver(h directio.Handle, capacity int64) (*Raw, error) {
	return createRaw(Path(h.Name()), directio.Over(h), capacity)
}
