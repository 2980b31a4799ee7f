//go:build !amd64 || purego

package inflate

// fast decompresses most of a block by the tables; see [Decoder.loop].
func (d *Decoder) fast(dst []byte, out int, t *tables) (_ int, ended bool, err error) {
	return d.loop(dst, out, t)
}
