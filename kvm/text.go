package kvm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Longest texts that are passed on, in bytes.
const (
	maxNameBytes        = 200      // libvirt makes file names of it: NAME.xml, NAME_VARS.fd, …
	maxDescriptionBytes = 64 << 10 // far under libvirt's limit for a whole document (4 MiB)
)

// vsphereEscapes are the three characters that vSphere escapes in names (F-INV-1).
// Case does not matter to vSphere; both are seen.
var vsphereEscapes = strings.NewReplacer(
	"%2f", "/", "%2F", "/",
	"%5c", `\`, "%5C", `\`,
	"%25", "%",
)

// DomainName makes of a VM's name, which may hold anything (F-INV-1), a name that
// libvirt accepts, and always the same one: vSphere's escapes are resolved; slashes,
// control characters, invisible formatting characters, and bytes that are not UTF-8
// become "-"; a "-" at the start becomes "_"; white space at the ends goes; what is
// longer than 200 bytes is cut between characters. A name with nothing left of it
// becomes "vm". Two different VM names can give the same domain name.
func DomainName(name string) string {
	name = strings.TrimSpace(strings.ToValidUTF8(vsphereEscapes.Replace(name), "-"))
	name = strings.Map(func(r rune) rune {
		if r == '/' || unicode.IsControl(r) || !xmlRune(r) || isFormat(r) {
			return '-'
		}
		return r
	}, name)
	name = strings.TrimSpace(cut(name, maxNameBytes))
	if name == "" || name == "." || name == ".." {
		return "vm"
	}
	if name[0] == '-' { // virsh would take it for an option
		name = "_" + name[1:]
	}
	return name
}

// cleanText leaves out of free text what XML cannot hold, and cuts it at max bytes.
// Line breaks and tabs stay.
func cleanText(s string, max int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return '\n'
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r) || !xmlRune(r):
			return -1
		}
		return r
	}, s)
	return cut(s, max)
}

// cleanLine is cleanText for texts of one line.
func cleanLine(s string, max int) string {
	return cut(strings.Join(strings.Fields(cleanText(s, 4*max)), " "), max)
}

// cut shortens s to at most max bytes without splitting a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}

// xmlRune says whether r may stand in an XML 1.0 document (section 2.2, Char).
func xmlRune(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' ||
		r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
}

// isFormat reports line and paragraph separators and invisible direction marks, which
// make one name look like another.
func isFormat(r rune) bool { return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) }

// plain says whether s can stand in XML as it is, on one line.
func plain(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || !xmlRune(r) {
			return false
		}
	}
	return true
}
