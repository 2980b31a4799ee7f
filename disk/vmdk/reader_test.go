package vmdk_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

const grain = 64 << 10

// exampleStream is the stream of a disk of 40 grains, of which every third is
// there.
func exampleStream() ([]byte, []int64) {
	content := make([]byte, 40*grain)
	var lbas []int64
	for i := 0; i < len(content); i += 3 * grain {
		copy(content[i:], "some data in this grain")
		lbas = append(lbas, int64(i/512))
	}
	return disktest.TailLayout(content, testvmdk.Options{}), lbas
}

func TestAReaderWalksOverTheGrainsOfAStream(t *testing.T) {
	t.Parallel()
	stream, want := exampleStream()
	r, err := vmdk.NewReader(bytes.NewReader(stream), vmdk.Options{Capacity: 40 * grain})
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for {
		g, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, g.LBA); len(got)%2 == 0 {
			continue // what is not read is passed over
		}
		if err := r.ReadGrain(make([]byte, g.Size+1)); err == nil {
			t.Error("a grain was read into a buffer of another length")
		}
		z := make([]byte, g.Size)
		if err := r.ReadGrain(z); err != nil {
			t.Fatal(err)
		}
		if at := stream[g.Offset+12:]; !bytes.Equal(z, at[:g.Size]) {
			t.Errorf("the grain at sector %d is not what the stream holds at byte %d", g.LBA, g.Offset)
		}
	}
	if !slices.Equal(got, want) || r.Counts().Grains != int64(len(want)) || r.Offset() != int64(len(stream)) {
		t.Errorf("grains at %v, %+v, %d bytes; want %v of %d bytes", got, r.Counts(), r.Offset(), want, len(stream))
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the end: error %v", err)
	}
}

func TestAReaderThatFailedFailsForGood(t *testing.T) {
	t.Parallel()
	stream, _ := exampleStream()
	r, err := vmdk.NewReader(bytes.NewReader(stream[:len(stream)-4*512]), vmdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = r.Next()
	}
	var at *vmdk.StreamError
	if !errors.Is(err, disk.ErrTruncated) || !errors.As(err, &at) {
		t.Fatalf("error %v", err)
	}
	if _, again := r.Next(); !errors.Is(again, disk.ErrTruncated) {
		t.Errorf("Next: %v", again)
	}
	if again := r.ReadGrain(nil); !errors.Is(again, disk.ErrTruncated) {
		t.Errorf("ReadGrain: %v", again)
	}
	if _, again := r.Checkpoint(); !errors.Is(again, disk.ErrTruncated) {
		t.Errorf("Checkpoint: %v", again)
	}
}

func TestAReaderThatIsResumedSeesTheRest(t *testing.T) {
	t.Parallel()
	stream, want := exampleStream()
	r, err := vmdk.NewReader(bytes.NewReader(stream), vmdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range len(want) / 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	p, err := r.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	rest, err := vmdk.NewReader(bytes.NewReader(stream[p.StreamOffset:]), vmdk.Options{Resume: &p})
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for {
		g, err := rest.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, g.LBA)
	}
	if !slices.Equal(got, want[len(want)/2:]) {
		t.Errorf("grains at %v, want %v", got, want[len(want)/2:])
	}
}
