package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// object is one inventory object in an answer of the property collector.
type object struct {
	doc  xmlDoc
	at   int32
	Kind string // its type
	Ref  string // its managed object id
}

// each calls take with the name and the value of each property.
func (o object) each(take func(name string, value int32)) {
	for i := range o.doc.children(o.at) {
		if o.doc[i].name == "propSet" {
			take(o.doc.value(i, "name"), o.doc.find(i, "val"))
		}
	}
}

// pages runs a paged query of the property collector and gives each object to
// take, in order. The next page is asked for as soon as the one at hand has
// come in, so that it is taken apart while the service makes that one.
func (c *Client) pages(ctx context.Context, query types.RetrievePropertiesEx, take func(object)) error {
	ctx, cancel := context.WithCancel(ctx)
	pending := c.ask(ctx, &methods.RetrievePropertiesExBody{Req: &query})
	defer func() {
		cancel()
		if pending != nil {
			<-pending // no request outlives the walk
		}
	}()
	for more := false; pending != nil; more = true {
		page := <-pending
		pending = nil
		if page.err != nil {
			if more && outcomeOf(page.err, true) != answered {
				return fmt.Errorf("%w: %w", errPageLost, page.err)
			}
			return page.err
		}
		doc, err := parseXML(string(page.raw))
		if err != nil {
			return err
		}
		result, err := resultOf(doc)
		if err != nil {
			return err
		}
		if token := doc.value(result, "token"); token != "" {
			pending = c.ask(ctx, &methods.ContinueRetrievePropertiesExBody{
				Req: &types.ContinueRetrievePropertiesEx{This: query.This, Token: token},
			})
		}
		if err := takeObjects(doc, result, take); err != nil {
			return err
		}
	}
	return nil
}

// errPageLost: a page further on did not come. Its token is used up, so that
// only a new query may get it.
var errPageLost = errors.New("a page of the inventory was lost")

// answer is a page that has come in, or why it did not.
type answer struct {
	raw []byte
	err error
}

// ask sends a request and returns where its answer will be.
func (c *Client) ask(ctx context.Context, req soap.HasFault) chan answer {
	out := make(chan answer, 1)
	go func() {
		raw, err := c.session.post(ctx, req)
		out <- answer{raw, err}
	}()
	return out
}

// resultOf finds what either of the two requests returns; 0 when that is
// nothing.
func resultOf(doc xmlDoc) (int32, error) {
	body := doc.find(0, "Envelope", "Body")
	for _, method := range []string{"RetrievePropertiesExResponse", "ContinueRetrievePropertiesExResponse"} {
		if at := doc.find(body, method); body != 0 && at != 0 {
			return doc.find(at, "returnval"), nil
		}
	}
	return 0, errors.New("the answer is not one of a property collector")
}

// takeObjects gives the objects below result to take.
func takeObjects(doc xmlDoc, result int32, take func(object)) error {
	if result == 0 {
		return nil
	}
	for i := range doc.children(result) {
		if doc[i].name != "objects" {
			continue
		}
		for m := range doc.children(i) {
			if doc[m].name == "missingSet" && doc[doc.find(m, "fault", "fault")].kind == "NotAuthenticated" {
				return soap.WrapVimFault(&types.NotAuthenticated{})
			}
		}
		ref := doc[doc.find(i, "obj")]
		take(object{doc: doc, at: i, Kind: ref.ref, Ref: string([]byte(ref.text))})
	}
	return nil
}
