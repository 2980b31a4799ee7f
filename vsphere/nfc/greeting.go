package nfc

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxLine is the longest line of the dialogue in bytes, its end included; real
// ones are under 200 (F-902-8).
const maxLine = 1024

var errLineTooLong = fmt.Errorf("a line of more than %d bytes", maxLine)

// readLine reads a line without its end and not one byte more: what follows may
// belong to another layer.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var one [1]byte
	for {
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		if line = append(line, one[0]); len(line) >= maxLine {
			return "", errLineTooLong
		}
	}
}

// reply is a line of the host's: a code of three digits and a text.
type reply struct {
	code int
	text string
}

var errNoReply = errors.New("no line that begins with a code")

func parseReply(line string) (reply, error) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' {
		return reply{}, errNoReply
	}
	code := 0
	for i := range 3 {
		if line[i] < '0' || line[i] > '9' {
			return reply{}, errNoReply
		}
		code = code*10 + int(line[i]-'0')
	}
	return reply{code, strings.TrimSpace(line[3:])}, nil
}

// Capabilities that a greeting must announce. Versions of hosts do not decide: what
// is announced does (F-902-9).
const (
	canSSL    = "NFCSSL supported"
	canSHA256 = "SHA256 supported"
)

// capabilities lists what a greeting announces, after its first colon and blank: as
// "NFCSSL supported" out of ", NFCSSL supported/t".
func capabilities(text string) []string {
	_, list, _ := strings.Cut(text, ": ")
	var out []string
	for item := range strings.SplitSeq(list, ",") {
		item, _, _ = strings.Cut(item, "/")
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// checkGreeting says why the host with that greeting cannot be gone on with.
func checkGreeting(host, line string) error {
	const stage = "greeting"
	r, err := parseReply(line)
	if err != nil || r.code != 220 { // as "Resource temporarily unavailable"
		return &Error{Host: host, Stage: stage, Kind: ErrBusy, Text: printable(line, "")}
	}
	has := capabilities(r.text)
	for _, want := range []string{canSSL, canSHA256} {
		if !slices.Contains(has, want) {
			return &Error{Host: host, Stage: stage, Kind: ErrUnsupported, Err: fmt.Errorf("it does not announce %q", want)}
		}
	}
	return nil
}
