// Package nbd reads one export of an NBD server at random: of nbdkit, qemu-nbd, or
// any other that speaks the fixed newstyle protocol. It only reads: no request that
// writes can be made with it. [Serve] is the other end: it offers what can be read at
// random to programs that speak NBD, and has nobody write either.
//
// The protocol is that of https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md.
// Each part of it has a file:
//
//	handshake.go  options: structured replies, base:allocation, GO with block sizes,
//	              and EXPORT_NAME for servers that know no GO
//	wire.go       requests and replies, taken apart and put together
//	session.go    one connection, with several reads in flight
//	extents.go    which areas of the export hold data
//	serve.go      the server: its clients, and answers to several requests at a time
//	greet.go      the server's side of the handshake
//	asked.go      what a client asks for, taken apart
//
// A [Reader] is the export. It is a [transfer.Source], so that retries, stalls and
// bandwidth are the business of package transfer. It uses several connections where the
// server says that they see the same disk (CAN_MULTI_CONN), and one otherwise. A
// connection that breaks is replaced when the next read needs one, and only what had
// not arrived is asked for again.
//
// Nothing that comes from a server is believed before it is bounded: options, names,
// messages, chunks and extents have limits, and a chunk must be a part of the read that
// it answers which no other has brought. Nothing that comes from a client is, either:
// options and requests have limits, and so have the clients and bytes that are under way.
//
// Not promised: that the bytes are the right ones, or secret on their way. There is no
// checksum and no TLS here: the other end is a unix socket, or loopback.
package nbd
