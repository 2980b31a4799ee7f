package authd

import (
	"bytes"
	"compress/zlib"
)

// deflate makes a zlib stream.
func deflate(data []byte) []byte {
	var b bytes.Buffer
	w, _ := zlib.NewWriterLevel(&b, zlib.BestSpeed) // of a level that there is
	_, _ = w.Write(data)                            // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// grain is how many zeros end a run.
const grain = 64

var zeros [grain]byte

// skipZeros codes data as its length, a zero, and runs of offset, length and bytes,
// in ascending order. Runs begin and end at bytes that are not zero.
func skipZeros(data []byte) []byte {
	out := le.AppendUint32(make([]byte, 0, len(data)+16), uint32(len(data)))
	out = le.AppendUint32(out, 0)
	for pos := 0; pos < len(data); {
		if n := min(grain, len(data)-pos); bytes.Equal(data[pos:pos+n], zeros[:n]) {
			pos += n
			continue
		}
		from := pos
		for data[from] == 0 {
			from++
		}
		for pos < len(data) {
			n := min(grain, len(data)-pos)
			if bytes.Equal(data[pos:pos+n], zeros[:n]) {
				break
			}
			pos += n
		}
		to := pos
		for data[to-1] == 0 {
			to--
		}
		out = le.AppendUint32(out, uint32(from))
		out = le.AppendUint32(out, uint32(to-from))
		out = append(out, data[from:to]...)
		if len(out) > len(data) { // raw is shorter
			break
		}
	}
	return out
}
