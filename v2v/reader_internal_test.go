package v2v

import (
	"io"
	"strings"
	"testing"
	"unicode"
)

// FuzzReader: whatever a guest makes virt-v2v say, what is told and kept of it is printable
// and bounded.
func FuzzReader(f *testing.F) {
	f.Add("{ \"message\": \"Opening the source\", \"type\": \"message\" }\n", "libguestfs: appliance is up\n", 3)
	f.Add("{ \"message\": \"\\u001b[2J\", \"type\": \"warning\" }\nplain\n{\"message\": 1}\n[", "gcaps_block_bus = virtio-scsi\ngcaps_net_bus = \x1b\n", 1)
	f.Add("{ \"message\": \""+strings.Repeat("x", 2000)+"\", \"type\": \"error\" }", "/usr/bin/qemu \\\n\x00\xff", 100)
	f.Fuzz(func(t *testing.T, out, words string, piece int) {
		var told []string
		tell := func(s string) { told = append(told, s) }
		r := newReader(Teller{Phase: tell, Info: tell}, io.Discard)
		piece = min(max(piece, 1), 1<<16)
		for w, text := range map[io.Writer]string{r.messages(): out, r.words(): words} {
			for len(text) > 0 {
				n := min(piece, len(text))
				if m, err := w.Write([]byte(text[:n])); m != n || err != nil {
					t.Fatal(m, err)
				}
				text = text[n:]
			}
		}
		r.end()
		told = append(told, r.outcome("").Warnings...)
		told = append(told, r.explain(io.EOF).Error())
		for _, s := range told {
			if len(s) > 100*maxTold || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("told %.200q", s)
			}
		}
	})
}
