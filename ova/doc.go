// Package ova reads and writes virtual machines as OVF packages (DSP0243): a directory
// with a descriptor, or the same in one tar file, an OVA.
//
// [Open] takes a package as it comes from anybody. Of a tar it reads the headers first,
// seeking over what is between them; then each file is a section of the tar, so that
// disks are read straight out of it, once, several at a time, and nothing is unpacked.
// Names with directories, links, files twice, sizes that go beyond the end and
// references to what is not there are errors that name the file and the place.
//
// [Writer] writes an OVA: the descriptor first, then the manifest, then the files in
// the order of the descriptor's references, as DSP0243 6.4 asks.
//
// Not promised: that signatures (.cert) are checked, and that packages are read which
// DSP0243 allows and nobody was seen to make: files in chunks, compressed files, several
// VMs in one package, references to URLs.
package ova
