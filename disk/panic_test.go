package disk_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// panicking is a writer, and a reader, that no program should have.
type panicking struct{}

func (panicking) WriteAt([]byte, int64) (int, error) { panic("boom") }
func (panicking) Read([]byte) (int, error)           { panic("boom") }

func TestAPanicOfAWriterOrReaderIsAnErrorOfTheDecoder(t *testing.T) {
	t.Parallel()
	_, streams := smallStreams(t)
	for layout, stream := range streams {
		for name, decode := range map[string]func() error{
			"the writer": func() error {
				_, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), panicking{}, disk.Options{})
				return err
			},
			"the reader": func() error {
				half := io.MultiReader(bytes.NewReader(stream[:len(stream)/2]), panicking{})
				_, err := disk.DecodeStream(context.Background(), half, memory(make([]byte, 64<<20)), disk.Options{Verify: true})
				return err
			},
		} {
			err := decode()
			var p *panics.Error
			if !errors.As(err, &p) || !strings.HasPrefix(p.At, "disk/panic_test.go:") {
				t.Errorf("%v, %s: error %v", layout, name, err)
			}
		}
	}
}
