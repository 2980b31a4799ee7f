// Package disk turns a virtual disk's bytes from one image format into
// another. It reads a stream-optimized VMDK, strictly forward, and writes raw
// files and, with package qcow2, qcow2 images; it knows nothing of networks or of
// vSphere.
//
// # Reading
//
// Package vmdk walks over a stream's grains and checks its structure.
// [DecodeStream] inflates them on several goroutines and writes them, in any
// order, to an [io.WriterAt]; with a nil writer it checks the structure only. The
// Adler-32 of each inflated grain covers the data. Deflate data is decompressed
// by internal/inflate, which has the whole grain in memory and makes use of it.
//
// # Writing
//
// A [Writer] is an image being written, to a part file: a Checkpoint makes what
// was written durable, and after a crash the part file is resumed from there,
// with [OpenRaw] or qcow2.Open. [Raw] is a sparse file; package qcow2 has the
// other. A [GrainWriter] takes grains without their being inflated. The caller
// renames the part file when everything is verified.
//
// Long aligned writes go around the page cache where the system allows it, and
// the kernel is asked to write the others back early, so that the sync at the
// end finds little to do.
//
// # Memory
//
// DecodeStream holds one to two MiB for each worker.
//
// # Not promised
//
// Without [Options.Verify] the transplant into compressed clusters does not
// inflate grains of more than 256 bytes, and so knows neither that they give a
// grain's bytes nor that their Adler-32 is right: the stream's hash and vSphere's
// manifest say so at a fraction of the CPU time. Where there is no manifest,
// Verify inflates beside, or qcow2.CheckData does afterwards, from the disk;
// nothing is lost by waiting, because a compressed cluster keeps its Adler-32.
// [CheckStream] does the same with a stream that is kept as it came.
//
// After an error other than at a checkpoint, what is in the writer's
// file is unspecified.
package disk
