package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// decodeYAML decodes one document strictly into out. An empty one is fine.
func decodeYAML(b []byte, out any) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(out); err != nil && !errors.Is(err, io.EOF) {
		return plainError(err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("holds more than one YAML document")
	}
	return nil
}

var (
	unknownField = regexp.MustCompile(`^(line \d+): field (\S+) not found in type \S+$`)
	badValue     = regexp.MustCompile("(?s)^(line \\d+): cannot unmarshal (!!\\S+)(?: `.*`)? into (.+)$")
	quoted       = regexp.MustCompile("(?s)`.*`")      // how the decoder shows a value
	indicator    = regexp.MustCompile(`'[-:,\]}>!.]'`) // how the parser shows what it wants
	atLine       = regexp.MustCompile(`^line \d+: `)
	kinds        = strings.NewReplacer(
		"!!str", "a text", "!!int", "a number", "!!float", "a number", "!!bool", "true or false",
		"!!seq", "a list", "!!map", "a mapping", "!!null", "nothing", "!!timestamp", "a date",
	)
)

// plainError rewrites the decoder's errors: no Go types, and no values.
func plainError(err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return syntaxError(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	lines := make([]string, len(te.Errors))
	for i, e := range te.Errors {
		if m := unknownField.FindStringSubmatch(e); m != nil {
			e = m[1] + ": unknown key " + m[2]
		} else if m := badValue.FindStringSubmatch(e); m != nil {
			e = m[1] + ": " + kinds.Replace(m[2]) + " cannot stand here, want " + wanted(m[3])
		}
		lines[i] = quoted.ReplaceAllString(e, "a value")
	}
	return errors.New(strings.Join(lines, "; "))
}

// syntaxError keeps of the parser's message what cannot hold a value: it
// quotes what looks like an alias or anchor, which an unquoted password may.
func syntaxError(text string) error {
	line := atLine.FindString(text)
	text = quoted.ReplaceAllString(text[len(line):], "a value")
	switch {
	case strings.HasPrefix(text, "unknown anchor"):
		text = `an alias (*…) to nothing; quote a value that begins with "*"`
	case strings.HasPrefix(text, "anchor '"):
		text = `an anchor (&…) that holds itself; quote a value that begins with "&" or "*"`
	case strings.ContainsAny(indicator.ReplaceAllString(text, ""), "'\"`"):
		text = "not valid YAML"
	}
	return errors.New(line + text)
}

func wanted(goType string) string {
	switch {
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "int"):
		return "a whole number"
	case goType == "string":
		return "a text"
	}
	return "a mapping of keys to values"
}
