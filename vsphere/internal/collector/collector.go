// Package collector reads the long answers of vSphere's property collector, those
// of tens of thousands of objects, page by page. govmomi's decoder, which knows
// every type, takes ten times as long for them; this one knows elements.
package collector

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Object is one inventory object.
type Object struct {
	Kind string // its type, as VirtualMachine
	Ref  string // its managed object id, as vm-12
	at   Element
}

// Properties are those that the answer has of the object, by name.
func (o Object) Properties() iter.Seq2[string, Element] {
	return func(yield func(string, Element) bool) {
		for el := range o.at.Children() {
			if el.Name() == "propSet" && !yield(el.Value("name"), el.Find("val")) {
				return
			}
		}
	}
}

// PageError: a page after the first did not come. Its token is used up, so that
// only a new query may get it.
type PageError struct{ Err error }

func (e *PageError) Error() string { return "a page of the inventory was lost: " + e.Err.Error() }
func (e *PageError) Unwrap() error { return e.Err }

// Post sends a request and puts the answer, as it came, in place of what is in the
// buffer. It may be called from another goroutine, one call at a time.
type Post func(ctx context.Context, req soap.HasFault, into *bytes.Buffer) error

// Walk runs a paged query and gives each object to take, in order. The next page
// is asked for as soon as the one at hand has come in, at the head of which its token
// is, so that this one is taken apart while the service makes that one. Who keeps an object or an [Element] of it keeps
// its whole page; texts are copies. Of elements of a type for which skip says so, the
// contents are left out, which saves most of the work; nil is none.
//
// Errors are those of post, as a [*PageError] after the first page, and of
// answers that are not a property collector's.
func Walk(ctx context.Context, post Post, query types.RetrievePropertiesEx, skip func(kind string) bool, take func(Object)) error {
	ctx, cancel := context.WithCancel(ctx)
	var buffer bytes.Buffer // of one answer after the other
	pending := ask(ctx, post, &methods.RetrievePropertiesExBody{Req: &query}, &buffer)
	defer func() {
		cancel()
		if pending != nil {
			<-pending //nolint:errcheck // it is only waited for: no request outlives the walk
		}
	}()
	for first := true; pending != nil; first = false {
		err := <-pending
		pending = nil
		if err != nil && !first {
			return &PageError{err}
		}
		if err != nil {
			return err
		}
		doc, err := parse(buffer.String(), skip, func(token string) {
			if token == "" {
				return
			}
			pending = ask(ctx, post, &methods.ContinueRetrievePropertiesExBody{
				Req: &types.ContinueRetrievePropertiesEx{This: query.This, Token: token},
			}, &buffer)
		})
		if err != nil {
			return err
		}
		result, err := resultOf(doc)
		if err != nil {
			return err
		}
		if err := takeObjects(result, take); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a request and returns where it says that its answer is in the buffer.
func ask(ctx context.Context, post Post, req soap.HasFault, into *bytes.Buffer) chan error {
	out := make(chan error, 1)
	go func() { out <- post(ctx, req, into) }()
	return out
}

// resultOf finds what either of the two requests returns; none when that is
// nothing.
func resultOf(doc *document) (Element, error) {
	body := doc.root().Find("Envelope", "Body")
	for _, method := range []string{"RetrievePropertiesExResponse", "ContinueRetrievePropertiesExResponse"} {
		if at := body.Find(method); body.Exists() && at.Exists() {
			return at.Find("returnval"), nil
		}
	}
	return Element{}, errors.New("the answer is not one of a property collector")
}

// takeObjects gives the objects below result to take.
func takeObjects(result Element, take func(Object)) error {
	if !result.Exists() {
		return nil
	}
	for el := range result.Children() {
		if el.Name() != "objects" {
			continue
		}
		for missing := range el.Children() {
			if missing.Name() == "missingSet" && missing.Find("fault", "fault").Kind() == "NotAuthenticated" {
				return soap.WrapVimFault(&types.NotAuthenticated{})
			}
		}
		obj := el.Find("obj")
		take(Object{Kind: strings.Clone(obj.RefType()), Ref: obj.Text(), at: el})
	}
	return nil
}
