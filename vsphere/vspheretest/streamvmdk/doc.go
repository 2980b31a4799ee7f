// Package streamvmdk writes a raw disk as a stream-optimized VMDK in the layout
// that an ESXi host sends through an NFC lease (F-NFC-8, F-NFC-10).
//
// The layout follows the VMware Virtual Disk Format 5.0 specification, sections
// "Stream-Optimized Compressed Sparse Extents" and "Markers":
//
//	header (gdOffset = all ones), embedded descriptor, padding to 64 KiB
//	for each grain table that has a grain:
//	    grain marker + zlib data, padded to a sector, in ascending LBA
//	    grain table marker + grain table
//	grain directory marker + grain directory
//	footer marker + footer (the header with the real gdOffset)
//	end-of-stream marker
//
// Holes of the source are found with SEEK_DATA and SEEK_HOLE, so that a sparse
// disk costs what it holds and not what it could hold; grains that are all zero
// are left out as well. Grains are compressed in parallel and written in order:
// the output depends on the content of the source alone.
//
// It is a test tool: it does not write the front-directory layout, nor delta
// disks, nor extents that are split over several files.
package streamvmdk
