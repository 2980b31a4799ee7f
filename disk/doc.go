// Package disk turns a virtual disk's bytes from one image format into
// another. It reads a stream-optimized VMDK, strictly forward, and writes raw
// files and qcow2 images; it knows nothing of networks or of vSphere.
//
// # Reading
//
// A stream-optimized VMDK (Virtual Disk Format 5.0) is a header, an embedded
// descriptor, and grains: pieces of the disk, 64 KiB as a rule, each a zlib
// stream behind a marker that holds its sector number (LBA) and compressed
// length. Grains come in ascending order; a piece that holds only zeros is left
// out. Grain tables (512 entries: where in the stream each grain is) and the
// grain directory (where the tables are) make random access possible. They
// come in two places, and both are read:
//
//   - [LayoutTail], what an ESXi host sends (F-NFC-10): each table follows its
//     grains, then come the directory, a footer, and the end-of-stream marker;
//   - [LayoutFront], what qemu-img writes: directory and tables stand in front
//     of the grains, and the stream just ends.
//
// [StreamReader] walks over markers and grains and checks the structure.
// [DecodeStream] inflates grains on several goroutines and writes them, in any
// order, to an [io.WriterAt]; with a nil writer it checks the structure only.
//
// A stream is accepted when it is complete: it has its end-of-stream marker
// (LayoutTail), and the tables list exactly the grains that were seen, at the
// places where they were seen (both layouts). So truncation is noticed whatever
// the transport said, and a damaged marker cannot move a grain unnoticed; the
// Adler-32 of each inflated grain covers the data. Deflate data is decompressed
// by internal/inflate, which has the whole grain in memory and makes use of it. The comparison holds 64-bit
// sums of the tables, not the tables, so its memory is one bit per 32 MiB of
// disk. The sums guard against accidents, not against a forger: compare the
// stream's hash with the lease's manifest for that (F-NFC-12).
//
// # Writing
//
// [Raw] is a sparse file. [Qcow2] is a version 3 image with 64 KiB clusters;
// with [Qcow2Options.Compress] it takes grains as they are, because a grain's
// deflate data is what a compressed cluster holds. Both write to a part file,
// whose tables become durable at each Checkpoint, and from which [OpenRaw] and
// [OpenQcow2] go on after a crash. A qcow2 part file has no qcow2 header until
// Commit: no other program takes it for an image. The caller renames it when
// everything is verified.
//
// Long aligned writes go around the page cache where the system allows it, and
// the kernel is asked to write the others back early, so that the sync at the
// end finds little to do.
//
// # Memory
//
// DecodeStream holds one to two MiB for each worker. Qcow2 holds the level 1
// table (8 bytes per 512 MiB of disk) and at most 48 pages of 64 KiB of level 2
// tables and reference counts, whatever the size of the disk.
//
// # Not promised
//
// Delta disks, encrypted VMDKs, other VMDK types than stream-optimized, and
// grains out of order are refused, not read. Without [Options.Verify] the
// transplant into compressed clusters does not check Adler-32. After an error
// other than at a checkpoint, what is in the writer's file is unspecified.
package disk
