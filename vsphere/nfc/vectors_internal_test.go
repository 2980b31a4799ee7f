package nfc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

// Vectors of a made-up session: nonce AbCdEfGhIjKlMnOp, disk [ds1] vm1/vm1.vmdk of
// 8 MiB, handle 0xffffffff80002a1f.
const (
	vectorHandle = 0xffffffff80002a1f
	vectorPath   = "[ds1] vm1/vm1.vmdk"
)

// unhex reads bytes written as text, with blanks.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestsAreByteForByteWhatTheProtocolWants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		got  []byte
		want string
		pad  int // zeros behind want
	}{
		"nonce":        {nonceMessage("AbCdEfGhIjKlMnOp"), "2b000000 41624364456647684 96a4b6c4d6e4f70", 244},
		"session":      {classic(classicSession), "21000000", 260},
		"version":      {classic(classicVersion, ourVersion, 0), "33000000 0b000000", 256},
		"features":     {classic(classicFeatures, 3, 0), "37000000 03000000", 256},
		"aio":          {classic(classicAIO), "34000000", 260},
		"complete":     {classic(classicComplete), "04000000", 260},
		"open session": {request(typeOpenSession, 0, openSessionPayload(65536, 4), ""), "7ada00a1 02000000 10000000 00000000 00000000 00000100 04000000 00000000", 0},
		"sock opts":    {request(typeSockOpts, 1, make([]byte, 12), ""), "7ada00a1 09000000 0c000000 01000000 00000000 00000000 00000000", 0},
		"res pool":     {request(typeResPool, 2, resPoolPayload(), ""), "7ada00a1 16000000 04000000 02000000 01000000", 0},
		"open file": {request(typeOpenFile, 3, openFilePayload(vectorPath), vectorPath), `
			7ada00a1 04000000 3c000000 03000000 12000000 00000000 00000000 00000000 02000000 1e000000
			00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
			5b647331 5d20766d 312f766d 312e766d 646b`, 0},
		"raw read": {request(typeIO, 4, readPayload(vectorHandle, raw, 4096, 1024), ""), `
			7ada00a1 07000000 2c000000 04000000 1f2a0080 ffffffff 01000000 00000000 00100000 00000000
			00040000 00000000 00040000 00040000 00000000`, 0},
		"SkipZ read": {request(typeIO, 5, readPayload(vectorHandle, skipZeros, 65536, 4096), ""), `
			7ada00a1 07000000 2c000000 05000000 1f2a0080 ffffffff 01000000 03000000 00000100 00000000
			00100000 00000000 00100000 00100000 00000000`, 0},
		"allocated": {request(typeAllocated, 8, allocatedPayload(vectorHandle, 1<<20, 16), ""), `
			7ada00a1 0d000000 30000000 08000000 1f2a0080 ffffffff 00000000 00000000 00000100 00000000
			00001000 00000000 10000000 00000000 00000000 00000000`, 0},
		"close file":    {request(typeCloseFile, 10, handlePayload(vectorHandle), ""), "7ada00a1 05000000 10000000 0a000000 1f2a0080 ffffffff 00000000 00000000", 0},
		"close session": {request(typeCloseSession, 11, handlePayload(0), ""), "7ada00a1 03000000 10000000 0b000000 00000000 00000000 00000000 00000000", 0},
	} {
		if want := append(unhex(t, c.want), make([]byte, c.pad)...); !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, c.got, want)
		}
	}
	names := namesMessage()
	if len(names) != classicSize+9+7 || string(names[classicSize:]) != "hyper2kvmnbdmode" || !bytes.HasPrefix(names, unhex(t, "36000000 09000000 07000000")) {
		t.Errorf("names: %x", names)
	}
}

func TestAnswersOfTheVectorsAreRead(t *testing.T) {
	t.Parallel()
	f, err := parseOpenFile(unhex(t, `00000000 00000000 1f2a0080 ffffffff 02000000 1e000000
		00000000 00008000 00000000 00020000 10000000 10000000 3f000000 00000000 00000000`))
	if err != nil || f != (file{vectorHandle, 0x800000}) {
		t.Errorf("open: %+v, %v", f, err)
	}
	if _, err := parseOpenFile(make([]byte, 60)); err == nil {
		t.Error("an open that gave nothing counts as one")
	}
	second, err := parseFragment(unhex(t, `00000000 00000000 01000000 00000000 00100000 00000000
		00040000 00020000 00020000 00020000 00000000`), 4096, 1024)
	if err != nil || second.at != 512 || second.n != 512 || second.wire != 512 || second.code != raw {
		t.Errorf("fragment: %+v, %v", second, err)
	}
	areas := appendBitmap(nil, unhex(t, "03020000"), 1<<20, 16)
	if len(areas) != 2 || areas[0].Offset != 1<<20 || areas[0].Length != 2*chunkSize || areas[1].Offset != 1<<20+9*chunkSize || areas[1].Length != chunkSize {
		t.Errorf("areas %+v", areas)
	}
}

func TestCodedFragmentsOfTheVectorsAreDecoded(t *testing.T) {
	t.Parallel()
	sparse := make([]byte, 4096)
	copy(sparse[137:], "hello")
	copy(sparse[4092:], "tail")
	for name, c := range map[string]struct {
		code Compression
		wire string
		want []byte
	}{
		"runs":  {skipZeros, "00100000 00000000 89000000 05000000 68656c6c6f fc0f0000 04000000 7461696c", sparse},
		"zeros": {skipZeros, "00020000 00000000", make([]byte, 512)},
		"zlib":  {zlibbed, "7801 63601805 23390400 02000001", make([]byte, 512)},
	} {
		got := bytes.Repeat([]byte{0xee}, len(c.want)) // as a buffer that was used before
		if err := decode(got, unhex(t, c.wire), c.code); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %v, %x", name, err, got)
		}
	}
}

func TestARawFragmentIsTakenAsSuchWhateverCodeItRepeats(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte("raw data "), 64)[:512]
	short := append(le.AppendUint32(nil, 512), plain[4:]...)   // its first word is its length
	shorter := append(le.AppendUint64(nil, 512), plain[8:]...) // and the second is zero
	deflated := append([]byte{0x79, 0x01}, plain[2:]...)       // no header of zlib
	for name, c := range map[string]struct {
		code Compression
		wire []byte
	}{"none": {raw, plain}, "SkipZ": {skipZeros, plain}, "length first": {skipZeros, short}, "runs that do not end": {skipZeros, shorter}, "zlib": {zlibbed, deflated}} {
		got := make([]byte, 512)
		if err := decode(got, c.wire, c.code); err != nil || !bytes.Equal(got, c.wire) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatDoesNotFitItsFragmentIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code Compression
		wire string
	}{
		"another length":    {skipZeros, "00040000 00000000"},
		"no second word":    {skipZeros, "00020000 01000000"},
		"too short":         {skipZeros, "000200"},
		"a run past it":     {skipZeros, "00020000 00000000 ff010000 02000000 4141"},
		"a run cut short":   {skipZeros, "00020000 00000000 00000000 08000000 4141"},
		"runs out of order": {skipZeros, "00020000 00000000 10000000 01000000 41 08000000 01000000 41"},
		"runs that overlap": {skipZeros, "00020000 00000000 10000000 02000000 4141 11000000 01000000 41"},
		"half a run":        {skipZeros, "00020000 00000000 10000000"},
		"a huge run":        {skipZeros, "00020000 00000000 ffffffff ffffffff 41"},
		"less by zlib":      {zlibbed, "7801 63000000 01000001"},
		"damaged zlib":      {zlibbed, "7801 ffffffff"},
		"no zlib":           {zlibbed, "0000"},
		"an unknown code":   {77, "00"},
	} {
		if err := decode(make([]byte, 512), unhex(t, c.wire), c.code); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestCapabilitiesAreReadFromTheGreetingAsHostsWriteIt(t *testing.T) {
	t.Parallel()
	const line = "220 VMware Authentication Daemon Version 1.10: SSL Required, ServerDaemonProtocol:SOAP, MKSDisplayProtocol:VNC , VMXARGS supported, NFCSSL supported/t, SHA256 supported"
	if err := checkGreeting("h:902", line); err != nil {
		t.Error(err)
	}
	for bad, want := range map[string]error{
		strings.TrimSuffix(line, ", SHA256 supported"):   ErrUnsupported,
		strings.Replace(line, "NFCSSL supported", "", 1): ErrUnsupported,
		"220":                              ErrUnsupported,
		"Resource temporarily unavailable": ErrBusy,
		"500 " + line:                      ErrBusy,
		"":                                 ErrBusy,
	} {
		err := checkGreeting("h:902", bad)
		if e, ok := err.(*Error); !ok || e.Kind != want { //nolint:errorlint // it is what is returned
			t.Errorf("%q: %v, want %v", bad, err, want)
		}
	}
}

func TestALineIsReadToItsEndAndNotAByteFurther(t *testing.T) {
	t.Parallel()
	r := strings.NewReader("220 one\r\nrest")
	line, err := readLine(r)
	if rest, _ := io.ReadAll(r); err != nil || line != "220 one" || string(rest) != "rest" {
		t.Errorf("%q, %v, then %q", line, err, rest)
	}
	if _, err := readLine(strings.NewReader(strings.Repeat("x", 2*maxLine))); !errors.Is(err, errLineTooLong) {
		t.Errorf("a line without end: %v", err)
	}
}

func TestNoTicketAndNoErrorShowsTheSecret(t *testing.T) {
	t.Parallel()
	ticket := Ticket{Host: "esx1", SessionID: "52aa0000-1111", Service: "nfc"}
	text := printable("501 unknown 52aa0000-1111\x1b[31m\r\n", ticket.SessionID)
	if strings.Contains(text+ticket.String()+ticket.GoString()+ticket.LogValue().String(), "52aa") || strings.ContainsRune(text, 0x1b) {
		t.Errorf("%q, %v", text, ticket)
	}
	for _, bad := range []string{"", "a b", "a\r\nPROXY nfc", strings.Repeat("x", 600)} {
		ticket.SessionID = bad
		if ticket.check() == nil {
			t.Errorf("the session id %q can be presented", bad)
		}
	}
}
