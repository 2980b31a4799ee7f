package collector

import (
	"errors"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// document is a parsed SOAP answer as a flat list of elements. It knows as much of
// XML as SOAP uses: elements, attributes, text, CDATA, comments and the five
// entities; a document type is an error. Names lose their namespace prefix.
//
// The elements hold places in the source and no pointers, so that the garbage
// collector need not look at the hundreds of thousands of them.
type document struct {
	src   string
	nodes []node // of which the first is the document
	texts []string
}

// node is one element. The zero index means none: it is the document.
type node struct {
	name  place
	kind  place // xsi:type, without its prefix
	ref   place // the type of a managed object reference
	text  place // of an element without children
	child int32 // the first one
	next  int32 // sibling
}

// place is a part of the source, or, where that is not the text itself because of
// entities or the like, one of document.texts: then len is -1 and at which one.
type place struct{ at, len int32 }

func (d *document) text(p place) string {
	if p.len < 0 {
		return d.texts[p.at]
	}
	return d.src[p.at : p.at+p.len]
}

// leastElement is less than an element of vSphere's has, in bytes, with its tags: a
// service that makes many of them out of few bytes wants our memory.
const leastElement = 24

var errXML = errors.New("the answer is not well-formed XML")

// parse reads a whole document. Both functions may be nil: skip says of which types
// the contents are neither read nor checked, and token is called as soon as the token
// of a query's answer has been read.
func parse(s string, skip func(kind string) bool, token func(string)) (*document, error) {
	if len(s) > math.MaxInt32 {
		return nil, errXML
	}
	p := parser{rest: s, doc: &document{src: s, nodes: make([]node, 1, len(s)/48+1)}, open: []int32{0}, last: []int32{0}, skip: skip, token: token}
	most := len(s)/leastElement + 4096
	for p.rest != "" {
		if len(p.doc.nodes) > most {
			return nil, errXML
		}
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	if len(p.open) != 1 || p.doc.nodes[0].child == 0 {
		return nil, errXML
	}
	return p.doc, nil
}

type parser struct {
	rest string
	doc  *document
	open []int32 // the elements around rest, the document first
	last []int32 // the last child of each of them so far

	skip  func(kind string) bool
	token func(string)
}

// tokenDepth is how many elements are open where a token begins: the document,
// envelope, body, response, and what it returns.
const tokenDepth = 5

// offset is where rest, an end of the source, begins.
func (p *parser) offset(rest string) int { return len(p.doc.src) - len(rest) }

// ending is where s stands, which ends right before offset end.
func ending(s string, end int) place { return place{int32(end - len(s)), int32(len(s))} }

// step takes in text up to the next markup, and that.
func (p *parser) step() error {
	text, rest, found := strings.Cut(p.rest, "<")
	if text != "" {
		if err := p.addText(text, p.offset(p.rest)); err != nil {
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
		return p.pass("?>")
	case strings.HasPrefix(rest, "!--"):
		return p.pass("-->")
	case strings.HasPrefix(rest, "![CDATA["):
		data, after, closed := strings.Cut(rest[len("![CDATA["):], "]]>")
		p.append(data, p.offset(rest)+len("![CDATA["))
		p.rest = after
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

// pass goes on behind the next mark.
func (p *parser) pass(mark string) error {
	_, after, found := strings.Cut(p.rest, mark)
	p.rest = after
	return unless(found)
}

// addText takes in text that begins at offset at.
func (p *parser) addText(text string, at int) error {
	plain, err := unescape(text)
	if len(plain) != len(text) || strings.IndexByte(text, '\r') >= 0 {
		at = -1
	}
	p.append(plain, at)
	return err
}

// append adds text, which stands at offset at of the source or, where that is
// negative, nowhere.
func (p *parser) append(text string, at int) {
	in := p.open[len(p.open)-1]
	if in == 0 || text == "" || p.doc.nodes[in].child != 0 {
		return
	}
	n := &p.doc.nodes[in]
	if at >= 0 && n.text.len == 0 {
		n.text = place{int32(at), int32(len(text))}
		return
	}
	p.doc.texts = append(p.doc.texts, p.doc.text(n.text)+text)
	n.text = place{int32(len(p.doc.texts) - 1), -1}
}

// start reads a start tag, whose < is gone.
func (p *parser) start() error {
	n := strings.IndexAny(p.rest, " \t\r\n/>")
	if n <= 0 {
		return errXML
	}
	full := p.rest[:n]
	el := node{name: ending(local(full), p.offset(p.rest)+n)}
	rest := p.rest[n:]
	kind := ""
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
		switch end := p.offset(rest) - 1; {
		case name == "type":
			el.ref = ending(value, end)
		case strings.HasSuffix(name, ":type"):
			kind = local(value)
			el.kind = ending(kind, end)
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
	if !empty && kind != "" && p.skip != nil && p.skip(kind) {
		i := strings.Index(p.rest, "</"+full+">")
		if i < 0 {
			return errXML
		}
		p.rest = p.rest[i+1:]
		return p.end()
	}
	return nil
}

// add puts an element below the one around it.
func (p *parser) add(el node, open bool) {
	at, top := int32(len(p.doc.nodes)), len(p.open)-1
	p.doc.nodes = append(p.doc.nodes, el)
	if prev := p.last[top]; prev != 0 {
		p.doc.nodes[prev].next = at
	} else {
		p.doc.nodes[p.open[top]].child = at
	}
	p.last[top] = at
	if open {
		p.open, p.last = append(p.open, at), append(p.last, 0)
	}
}

// end reads an end tag.
func (p *parser) end() error {
	name, after, found := strings.Cut(p.rest[1:], ">")
	top := len(p.open) - 1
	if !found || top == 0 {
		return errXML
	}
	el := p.doc.nodes[p.open[top]]
	if local(strings.TrimRight(name, " \t\r\n")) != p.doc.text(el.name) {
		return errXML
	}
	p.rest, p.open, p.last = after, p.open[:top], p.last[:top]
	if p.token != nil && top == tokenDepth && p.doc.text(el.name) == "token" {
		p.token(strings.Clone(p.doc.text(el.text)))
		p.token = nil // there is only one
	}
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

// unescape replaces entities; one that XML does not have is an error. Line
// ends become \n (XML 1.0, 2.11).
func unescape(s string) (string, error) {
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

// Element is one element of an answer, or none.
type Element struct {
	doc *document
	at  int32
}

func (d *document) root() Element { return Element{d, 0} }

// Exists reports whether there is such an element.
func (e Element) Exists() bool { return e.at != 0 }

// Name is the element's name, without a prefix.
func (e Element) Name() string { return e.doc.text(e.doc.nodes[e.at].name) }

// Kind is the type that the element says it is of, as VirtualDisk; "" where it does
// not.
func (e Element) Kind() string { return e.doc.text(e.doc.nodes[e.at].kind) }

// RefType is the type of what a managed object reference refers to, as
// VirtualMachine; "" of any other element.
func (e Element) RefType() string { return e.doc.text(e.doc.nodes[e.at].ref) }

// Text is what stands in an element that has no children.
func (e Element) Text() string { return strings.Clone(e.doc.text(e.doc.nodes[e.at].text)) }

// Int is the text as an integer, 0 when it is none.
func (e Element) Int() int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(e.doc.text(e.doc.nodes[e.at].text)), 10, 64) // 0 is what the fields have then
	return n
}

// Children are the elements right below.
func (e Element) Children() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for i := e.doc.nodes[e.at].child; i != 0 && yield(Element{e.doc, i}); i = e.doc.nodes[i].next {
		}
	}
}

// Find goes down by the first child of each name; none when there is none.
func (e Element) Find(names ...string) Element {
	for _, name := range names {
		i := e.doc.nodes[e.at].child
		for i != 0 && e.doc.text(e.doc.nodes[i].name) != name {
			i = e.doc.nodes[i].next
		}
		if e.at = i; i == 0 {
			break
		}
	}
	return e
}

// Value is the text of the first child of that name, or "".
func (e Element) Value(name string) string { return e.Find(name).Text() }

// Number is [Element.Int] of the first child of that name, 0 without one.
func (e Element) Number(name string) int64 { return e.Find(name).Int() }
