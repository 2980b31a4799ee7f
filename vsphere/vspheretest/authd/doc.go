// Package authd is the service of a lab's ESXi host on TCP port 902: its
// authentication daemon, and NFC behind it. It serves virtual disks at random, to
// read only.
//
// It was written from the description of the protocol alone, and shares no code with
// the product's client: two readings of one text that have to agree. A connection
// passes through a greeting in clear, TLS, the dialogue in which a ticket is
// presented, TLS a second time on the same connection (or no TLS, if the client asks
// for that), messages of 264 bytes that agree on versions, and then requests with
// headers of 16 bytes.
//
// Where hosts are known to differ, or not known, the server takes what any client
// may send: the names of message 54 in one write or in three, message 51 before 36
// was read, closing messages with short or long payloads, a dialogue without BANNER,
// SkipZ, zlib or FastLZ (which is answered raw). It is strict where a host is: a
// second classic message in one TLS record is not looked at before the next record
// comes, a ticket is good for one connection, an answer's fragments are no longer than
// the buffer that the session asked for, and they come in no order at all, mixed with
// those of other reads.
//
// Whatever would change something on a host (a writable open, a write, the classic
// messages that put, delete or rename) is refused and told to [Config.Violation].
//
// [Faults] lists what can be made to go wrong.
package authd
