// Package nfc reads one frozen virtual disk of an ESXi host at random, over the
// host's NFC service on TCP port 902: the channel that VDDK calls nbdssl. It only
// reads: no message that changes anything on a host can be made with it.
//
// What can be read: any link of a powered-off VM, and every link below the active
// one of a running VM. The host resolves parents, so a chain is read through its top
// link, and its capacity is that of the virtual disk (F-902-1, F-902-2).
//
// A connection passes through five layers. Each has a file:
//
//	greeting.go   a line of the host in clear, with what it is able to do
//	tls.go        TLS, with the certificate that the ticket names
//	authd.go      the ticket is presented, and the service asked for
//	tls.go        TLS again, from the start, on the same TCP connection
//	classic.go    messages of 264 bytes agree on versions
//	message.go    messages with a header of 16 bytes: open, read, close
//
// A [Reader] is the disk. It is a [transfer.Source], so that retries, stalls and
// bandwidth are the business of package transfer. Underneath are one or several
// sessions (session.go), each a connection with a ticket of its own and several
// reads in flight. The fragments of an answer come in any order (fragment.go). A
// session that breaks is replaced when the next read needs one, with a new ticket
// and the file opened again, and only what had not arrived is asked for again.
//
// Nothing that comes from a host is believed before it is bounded: lines, texts,
// payloads, fragments and what they inflate to have limits, and a fragment must be
// a part of the read that it answers which no other has brought.
//
// Not promised: that the bytes are the right ones. The protocol has no checksum;
// who wants certainty reads twice. None of it was tried on a real host by us: the
// facts F-902-… say how sure each is.
package nfc
