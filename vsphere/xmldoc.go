package vsphere

import (
	"errors"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// xmlDoc is a parsed SOAP answer as a flat list of elements, for the answers
// that hold tens of thousands of objects: govmomi's decoder takes ten times as
// long for those. It knows as much of XML as SOAP uses: elements, attributes,
// text, CDATA, comments and the five entities; a document type is an error.
// Names lose their namespace prefix.
type xmlDoc []xmlElement

// xmlElement is one element. The zero index means none: it is the document.
type xmlElement struct {
	name  string
	kind  string // xsi:type, without its prefix
	ref   string // the type of a managed object reference
	text  string // of an element without children
	child int32  // the first one
	next  int32  // sibling
}

var errXML = errors.New("the answer is not well-formed XML")

// parseXML reads a whole document.
func parseXML(s string) (xmlDoc, error) {
	p := xmlParser{rest: s, doc: make(xmlDoc, 1, len(s)/48+1), open: []int32{0}, last: []int32{0}}
	for p.rest != "" {
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	if len(p.open) != 1 || p.doc[0].child == 0 {
		return nil, errXML
	}
	return p.doc, nil
}

type xmlParser struct {
	rest string
	doc  xmlDoc
	open []int32 // the elements around rest, the document first
	last []int32 // the last child of each of them so far
}

// step takes in text up to the next markup, and that.
func (p *xmlParser) step() error {
	text, rest, found := strings.Cut(p.rest, "<")
	if text != "" {
		if err := p.addText(text); err != nil {
			return err
		}
	}
	if p.rest = rest; !found {
		return nil
	}
	switch {
	case strings.HasPrefix(rest, "/"):
		return p.end()
	case strings.HasPrefix(rest, "?"):
		return p.skip("?>")
	case strings.HasPrefix(rest, "!--"):
		return p.skip("-->")
	case strings.HasPrefix(rest, "![CDATA["):
		data, after, closed := strings.Cut(rest[len("![CDATA["):], "]]>")
		p.rest = after
		p.append(data)
		return unless(closed)
	}
	return p.start()
}

func unless(ok bool) error {
	if ok {
		return nil
	}
	return errXML
}

func (p *xmlParser) skip(mark string) error {
	_, after, found := strings.Cut(p.rest, mark)
	p.rest = after
	return unless(found)
}

func (p *xmlParser) addText(text string) error {
	text, err := unescapeXML(text)
	p.append(text)
	return err
}

func (p *xmlParser) append(text string) {
	if at := p.open[len(p.open)-1]; at != 0 && p.doc[at].child == 0 {
		p.doc[at].text += text
	}
}

// start reads a start tag, whose < is gone.
func (p *xmlParser) start() error {
	n := strings.IndexAny(p.rest, " \t\r\n/>")
	if n <= 0 {
		return errXML
	}
	el := xmlElement{name: local(p.rest[:n])}
	rest := p.rest[n:]
	for {
		rest = strings.TrimLeft(rest, " \t\r\n")
		if rest == "" {
			return errXML
		}
		if rest[0] == '/' || rest[0] == '>' {
			break
		}
		name, value, after, ok := cutAttribute(rest)
		if !ok {
			return errXML
		}
		rest = after
		switch {
		case name == "type":
			el.ref = value
		case strings.HasSuffix(name, ":type"):
			el.kind = local(value)
		}
	}
	empty := strings.HasPrefix(rest, "/>")
	if !empty && rest[0] != '>' {
		return errXML
	}
	p.rest = rest[1:]
	if empty {
		p.rest = rest[2:]
	}
	p.add(el, !empty)
	return nil
}

// add puts an element below the one around it.
func (p *xmlParser) add(el xmlElement, open bool) {
	at, top := int32(len(p.doc)), len(p.open)-1
	p.doc = append(p.doc, el)
	if prev := p.last[top]; prev != 0 {
		p.doc[prev].next = at
	} else {
		p.doc[p.open[top]].child = at
	}
	p.last[top] = at
	if open {
		p.open, p.last = append(p.open, at), append(p.last, 0)
	}
}

// end reads an end tag.
func (p *xmlParser) end() error {
	name, after, found := strings.Cut(p.rest[1:], ">")
	top := len(p.open) - 1
	if !found || top == 0 || local(strings.TrimRight(name, " \t\r\n")) != p.doc[p.open[top]].name {
		return errXML
	}
	p.rest, p.open, p.last = after, p.open[:top], p.last[:top]
	return nil
}

// cutAttribute reads name="value" at the head of s.
func cutAttribute(s string) (name, value, after string, ok bool) {
	name, after, ok = strings.Cut(s, "=")
	name, after = strings.TrimRight(name, " \t\r\n"), strings.TrimLeft(after, " \t\r\n")
	if !ok || name == "" || strings.ContainsAny(name, "<>/\"' ") || after == "" || after[0] != '"' && after[0] != '\'' {
		return "", "", "", false
	}
	value, after, ok = strings.Cut(after[1:], after[:1])
	return name, value, after, ok
}

func local(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// unescapeXML replaces entities; one that XML does not have is an error. Line
// ends become \n (XML 1.0, 2.11).
func unescapeXML(s string) (string, error) {
	if strings.IndexByte(s, '\r') >= 0 {
		s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	}
	if strings.IndexByte(s, '&') < 0 {
		return s, nil
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "&")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest, closed := strings.Cut(after, ";")
		r, ok := entity(name)
		if !closed || !ok {
			return "", errXML
		}
		b.WriteRune(r)
		s = rest
	}
}

func entity(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, isNumber := strings.CutPrefix(name, "#")
	base := 10
	if hex, isHex := strings.CutPrefix(digits, "x"); isHex {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 31)
	return rune(n), isNumber && err == nil && utf8.ValidRune(rune(n))
}

// children are the elements right below at.
func (d xmlDoc) children(at int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for i := d[at].child; i != 0 && yield(i); i = d[i].next {
		}
	}
}

// find goes down from at by the first child of each name; 0 when there is none.
func (d xmlDoc) find(at int32, names ...string) int32 {
	for _, name := range names {
		found := int32(0)
		for i := range d.children(at) {
			if d[i].name == name {
				found = i
				break
			}
		}
		if found == 0 {
			return 0
		}
		at = found
	}
	return at
}

// value is the text of the first child of that name, or "". It does not keep
// the document in memory.
func (d xmlDoc) value(at int32, name string) string {
	return strings.Clone(d[d.find(at, name)].text)
}

// number is value as an integer, 0 when it is none.
func (d xmlDoc) number(at int32, name string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(d[d.find(at, name)].text), 10, 64) // 0 is what the fields have then
	return n
}
