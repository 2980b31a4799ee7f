// Package vmdk reads VMDKs (Virtual Disk Format 5.0): stream-optimized ones, strictly
// forward, whose structure it checks; and, of disks that lie in files here, hosted
// sparse extents at random ([OpenSparse]) and descriptors ([ParseDescriptor]).
//
// A stream-optimized VMDK is a header, an embedded descriptor, and grains: pieces of the
// disk, 64 KiB as a rule, each a zlib stream behind a marker that holds its
// sector number (LBA) and compressed length. Grains come in ascending order; a
// piece that holds only zeros is left out. Grain tables (512 entries: where in
// the stream each grain is) and the grain directory (where the tables are) make
// random access possible. They come in two places, and both are read:
//
//   - [LayoutTail], what an ESXi host sends (F-NFC-10): each table follows its
//     grains, then come the directory, a footer, and the end-of-stream marker;
//   - [LayoutFront], what qemu-img writes: directory and tables stand in front
//     of the grains, and the stream just ends.
//
// A stream is accepted when it is complete: it has its end-of-stream marker
// (LayoutTail), and the tables list exactly the grains that were seen, at the
// places where they were seen (both layouts). So truncation is noticed whatever
// the transport said, and a damaged marker cannot move a grain unnoticed. The
// comparison holds 64-bit sums of the tables, not the tables, so its memory is
// one bit per 32 MiB of disk. The sums guard against accidents, not against a
// forger: compare the stream's hash with the lease's manifest for that
// (F-NFC-12).
//
// A [Reader] walks over markers and grains. It does not inflate grains; package
// disk does, with several goroutines. Errors wrap ErrTruncated, ErrCorrupt,
// ErrUnsupported, ErrCapacity or ErrNotResumable of package disk.
//
// # Not promised
//
// Delta disks, encrypted VMDKs, the sparse extents of ESXi's snapshots, and streams
// with grains out of order are refused, not read. A hosted sparse extent has no
// checksums: that its tables and grains lie within the file, and are not more than it
// has room for, is all that can be checked.
package vmdk
