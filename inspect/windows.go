package inspect

import "strings"

// windows looks into a Windows whose C: is mounted.
func (t *talk) windows(s *System) {
	// The names of files are as whoever made them wrote them.
	path := t.line("case-sensitive-path", word("/hiberfil.sys"))
	if path == "" || !t.yes("is-file", word(path)) {
		return
	}
	// Windows writes "HIBR" or "hibr", and something else once it has woken.
	head := t.line("pread", word(path), 4, 0)
	s.Hiberfil = strings.EqualFold(head, "hibr")
}
