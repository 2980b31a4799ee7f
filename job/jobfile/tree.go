package jobfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/internal/yamlerr"
)

// maxDepth is how deep a job file may be nested; jobs, one of them, its
// options make four.
const maxDepth = 32

// Tags that the walk distinguishes.
const (
	tagNull   = "!!null"
	tagBool   = "!!bool"
	tagInt    = "!!int"
	tagFloat  = "!!float"
	tagString = "!!str"
	tagTime   = "!!timestamp"
)

// parseYAML parses one YAML document. Aliases stay references, so a few bytes
// cannot become many nodes.
func parseYAML(text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, &DecodeError{Reason: "the job file is empty"}
	}
	if err != nil {
		return nil, yamlError(err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, &DecodeError{Line: second.Line, Reason: "a second document; put several jobs under jobs:"}
	case !errors.Is(err, io.EOF):
		return nil, yamlError(err)
	}
	return doc.Content[0], nil
}

// yamlError keeps of the parser's message what cannot hold a value.
func yamlError(err error) error {
	line, text := yamlerr.Syntax(err)
	e := &DecodeError{Line: line, Reason: "not valid YAML"}
	if text != "" {
		e.Reason += ": " + text
	}
	return e
}

// parseJSON parses one JSON value into the tree that YAML would make of it.
func parseJSON(text []byte) (*yaml.Node, error) {
	p := jsonParser{text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	root, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, p.fail("more text after the end of the JSON value; put several jobs into a list")
	}
	return root, nil
}

// jsonParser builds a tree from tokens and counts lines as it goes.
type jsonParser struct {
	text []byte
	dec  *json.Decoder
	line int // lines before counted
	at   int // offset counted up to
}

// here is the line of the last token, from 1.
func (p *jsonParser) here() int {
	if off := min(int(p.dec.InputOffset()), len(p.text)); off > p.at {
		p.line += bytes.Count(p.text[p.at:off], []byte("\n"))
		p.at = off
	}
	return p.line + 1
}

func (p *jsonParser) fail(reason string) error {
	return &DecodeError{Line: p.here(), Reason: reason}
}

// token reads a token. The decoder's own message would quote a character.
func (p *jsonParser) token() (json.Token, error) {
	t, err := p.dec.Token()
	if errors.Is(err, io.EOF) && len(bytes.TrimSpace(p.text)) == 0 {
		return nil, &DecodeError{Reason: "the job file is empty"}
	}
	if err != nil {
		return nil, p.fail("not valid JSON from here on")
	}
	return t, nil
}

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: p.here()}
	switch t := t.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		return n, p.content(n, depth+1)
	case nil:
		n.Tag = tagNull
	case bool:
		n.Tag, n.Value = tagBool, strconv.FormatBool(t)
	case json.Number:
		n.Tag, n.Value = tagFloat, t.String()
		if _, err := t.Int64(); err == nil {
			n.Tag = tagInt
		}
	case string:
		n.Tag, n.Value = tagString, t
	}
	return n, nil
}

// content reads what a list or an object holds, and its end. In an object the
// decoder returns keys as tokens like any other, and sees to their being
// strings.
func (p *jsonParser) content(n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return p.fail("nested too deeply")
	}
	for p.dec.More() {
		child, err := p.value(depth)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, child)
	}
	_, err := p.token()
	return err
}

// resolve follows an alias. An alias points to an anchored node, never to
// another alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == tagNull }

func hasKey(n *yaml.Node, key string) bool {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return true
		}
	}
	return false
}

// setter stores the value v of the field so named.
type setter func(v *yaml.Node, field string)

// text accepts what is written as text. In YAML that is any scalar, as it
// stands: a VM may be called 2019, a password may be 0123.
func (d *decoder) text(to *string) setter {
	return func(v *yaml.Node, field string) {
		switch {
		case v.Kind != yaml.ScalarNode, d.strict && v.Tag != tagString:
			d.fail(v, field, "want text")
		case strings.ContainsRune(v.Value, 0):
			d.fail(v, field, "must not hold a NUL byte")
		default:
			*to = v.Value
		}
	}
}

// texts accepts a mapping whose keys may be any text, each at most once.
func (d *decoder) texts(to *map[string]string) setter {
	return func(n *yaml.Node, field string) {
		if n.Kind != yaml.MappingNode {
			d.fail(n, field, "want keys and values")
			return
		}
		lines := make(map[string]int, len(n.Content)/2)
		out := make(map[string]string, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content) && !d.full(); i += 2 {
			key, value := n.Content[i], resolve(n.Content[i+1])
			name := key.Value
			first, again := lines[name]
			switch {
			case key.Kind != yaml.ScalarNode:
				d.fail(key, field, "a key must be plain text")
			case again:
				d.fail(key, field, "key %s was given in line %d already", QuoteKey(name), first)
			case isNull(value):
				d.fail(key, field, "key %s has no value", QuoteKey(name))
			default:
				var text string
				d.text(&text)(value, field+"["+QuoteKey(name)+"]")
				out[name] = text
			}
			lines[name] = key.Line
		}
		if len(out) > 0 {
			*to = out
		}
	}
}

func (d *decoder) boolean(to *bool) setter {
	return func(v *yaml.Node, field string) {
		b, err := strconv.ParseBool(strings.ToLower(v.Value))
		if v.Kind != yaml.ScalarNode || v.ShortTag() != tagBool || err != nil {
			d.fail(v, field, "want true or false")
			return
		}
		*to = b
	}
}

func (d *decoder) number(to *int) setter {
	return func(v *yaml.Node, field string) {
		n, err := strconv.Atoi(v.Value)
		if v.Kind != yaml.ScalarNode || v.ShortTag() != tagInt || err != nil {
			d.fail(v, field, "want a whole number")
			return
		}
		*to = n
	}
}

func (d *decoder) time(to *time.Time) setter {
	return func(v *yaml.Node, field string) {
		t, err := time.Parse(time.RFC3339, v.Value)
		tag := v.ShortTag()
		if v.Kind != yaml.ScalarNode || tag != tagString && tag != tagTime || err != nil {
			d.fail(v, field, "want a time such as 2026-01-02T15:04:05Z")
			return
		}
		*to = t
	}
}
