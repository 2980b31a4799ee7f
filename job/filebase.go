package job

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxBase bounds the part of a file name made from a VM's name, in bytes:
// file systems take 255, and "-disk-63.qcow2.part" and the like are appended.
const maxBase = 180

// FileBase makes the stem of a VM's file names from its name.
//
// vSphere writes "/", "\" and "%" in names as %2f, %5c and %25 (F-INV-1). They
// are decoded first; then everything that a shell, a URL, a manifest line, or
// a path would take for something else becomes "_". Letters and digits of any
// script stay. Two names may share a stem: the export's receipt tells them
// apart.
func FileBase(name string) string {
	if s, err := url.PathUnescape(name); err == nil && utf8.ValidString(s) {
		name = s
	}
	var b strings.Builder
	for _, r := range strings.TrimSpace(name) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r), strings.ContainsRune("-_.+@ ", r):
		default:
			r = '_'
		}
		if b.Len()+utf8.RuneLen(r) > maxBase {
			break
		}
		b.WriteRune(r)
	}
	// A leading dot would hide the files, a leading dash would be an option.
	s := strings.TrimRight(strings.TrimLeft(b.String(), ".- "), " ")
	if s == "" {
		return "vm"
	}
	return s
}
