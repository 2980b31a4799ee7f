// Package inspect looks into the disks of a guest, wherever they are, and says what is
// there: systems, file systems and their room, and what would keep the guest from being
// converted, from keeping its addresses, or from booting.
//
// Nothing is written. The disks are served by package nbd, read-only, to guestfish of
// libguestfs, which asks for what it wants of them; so little of a disk is read. What
// guestfish finds are the facts, a [Guest]; what they mean for a conversion is judged in
// [Guest.Findings], by what virt-v2v demands. Each part has a file:
//
//	look.go      the disks served, guestfish run, both ended
//	talk.go      one question to guestfish after the other
//	scan.go      what is asked of the disks, and of any system
//	linux.go     what is asked of Linux, and windows.go of Windows
//	findings.go  what the answers mean
//
// Everything that guestfish says comes from the guest: it is bounded, made printable, and
// never a part of a command without being quoted.
//
// Not promised: that a guest without findings is converted. Only virt-v2v knows. What is
// inside encrypted volumes is not looked at: there is nobody to ask for a passphrase.
package inspect
