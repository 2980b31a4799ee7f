// Package yamlerr words the errors of the YAML decoder for people: without Go types,
// and without values, because a value in the wrong place may be a password.
package yamlerr

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

var (
	unknownField = regexp.MustCompile(`^(line \d+): field (\S+) not found in type \S+$`)
	badValue     = regexp.MustCompile("(?s)^(line \\d+): cannot unmarshal (!!\\S+)(?: `.*`)? into (.+)$")
	quoted       = regexp.MustCompile("(?s)`.*`")      // how the decoder shows a value
	indicator    = regexp.MustCompile(`'[-:,\]}>!.]'`) // how the parser shows what it wants
	atLine       = regexp.MustCompile(`^line (\d+): `)
	kinds        = strings.NewReplacer(
		"!!str", "a text", "!!int", "a number", "!!float", "a number", "!!bool", "true or false",
		"!!seq", "a list", "!!map", "a mapping", "!!null", "nothing", "!!timestamp", "a date",
	)
)

// Plain words an error of decoding into Go values, or of the syntax, with the lines.
func Plain(err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		line, text := Syntax(err)
		if text == "" {
			text = "not valid YAML"
		}
		if line > 0 {
			text = "line " + strconv.Itoa(line) + ": " + text
		}
		return errors.New(text)
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

// Syntax returns the line of an error of the parser, from 1 and 0 when unknown, and
// of its text what cannot hold a value; "" when that is nothing. The parser quotes
// what looks like an alias or anchor, which an unquoted password may.
func Syntax(err error) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := atLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	text = quoted.ReplaceAllString(text, "a value")
	switch {
	case strings.HasPrefix(text, "unknown anchor"):
		text = `an alias (*…) to nothing; quote a value that begins with "*"`
	case strings.HasPrefix(text, "anchor '"):
		text = `an anchor (&…) that holds itself; quote a value that begins with "&" or "*"`
	case strings.ContainsAny(indicator.ReplaceAllString(text, ""), "'\"`"):
		text = ""
	}
	return line, text
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
