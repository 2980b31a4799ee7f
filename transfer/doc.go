// Package transfer moves the bytes of one HTTP object to one reader, in order,
// and knows nothing of vSphere or of image formats.
//
// A [Source] is asked for the object, or for a part of it. [NewReader] turns a
// Source into a single ordered stream, in one of two ways:
//
//   - Ranges. A server that has proved to honour them is asked for chunks by
//     several workers at a time. Workers take the next chunk of a bounded
//     window (at most 2*Workers chunks that were asked for and not yet read, and
//     at most Options.Window bytes of them), so a slow connection holds up only
//     its own chunk; the reader hands the chunks out in order. A chunk at the
//     head of the window that takes far longer than others took is asked for a
//     second time, and the first answer wins. A chunk that is cut goes on where
//     it was cut. The size of the chunks follows the latency, within bounds.
//   - One stream. Anything else is a single GET. What is cut after its first
//     byte cannot be resumed: the reader ends with [ErrRestart], and the caller
//     begins again from the start. This is what the NFC service of an ESXi host
//     is expected to need (F-NFC-9).
//
// A [Random] reads here and there instead, a file system for one, and keeps what it has
// read in bounded memory.
//
// A claim of the server is never trusted beyond the answer it came with: each
// answer's status, Content-Encoding, Content-Range, length and validator (a strong
// ETag, otherwise Last-Modified) are checked, the first one's too, and a body that
// ends early or goes on for too long is an error.
//
// Transient failures are retried here and nowhere else, out of a [Budget] that
// is restored while bytes advance. A stall is "no byte for so long while we were
// reading", never a limit on the whole transfer, and a consumer that does not
// read is no stall. A [Limiter] bounds the bandwidth of all readers that share
// it.
//
// Not promised: that the bytes are the right ones. An object of unknown size
// whose body ends cleanly too early (F-NFC-8) looks complete from here; its
// format's end marker and its digest have to be judged by the caller.
package transfer
