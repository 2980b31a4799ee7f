package api

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// This file completes the OpenAPI description from what the routes have in common:
// who may call them, what they belong to, and how they can fail.

// tags are the groups of routes, by the beginning of their paths.
var tags = []struct{ prefix, name, text string }{
	{"/jobs", "jobs", "Exports: submitting, following, and ending them."},
	{"/vms", "vsphere", "What the daemon's vCenters have, and whether they can be used."},
	{"/vcenters", "vsphere", ""},
	{"/", "daemon", "The daemon itself: its health, figures, limits, and who changed what."},
}

// failures are the ways in which requests fail, by status, as components of the
// description.
var failures = map[int]struct{ name, text, header string }{
	http.StatusBadRequest:            {"BadRequest", "The request cannot be read: its body or a parameter is malformed, or unknown keys are in it.", ""},
	http.StatusUnauthorized:          {"Unauthorized", "Nobody is known by what came with the request: a token is missing, unknown, expired or revoked.", "WWW-Authenticate"},
	http.StatusForbidden:             {"Forbidden", "The sender's role does not suffice, or a web page of another origin sends the request.", "WWW-Authenticate"},
	http.StatusNotFound:              {"NotFound", "There is no such job, vCenter or daemon.", ""},
	http.StatusConflict:              {"Conflict", "The job's state does not allow it.", ""},
	http.StatusRequestEntityTooLarge: {"TooLarge", "The body is larger than the daemon takes.", ""},
	http.StatusUnsupportedMediaType:  {"UnsupportedMediaType", "The body is compressed.", ""},
	http.StatusMisdirectedRequest:    {"Misdirected", "The daemon does not know the name under which it was asked (Host).", ""},
	http.StatusUnprocessableEntity:   {"Unprocessable", "The request can be read, and a value in it is not possible.", ""},
	http.StatusTooManyRequests:       {"TooManyRequests", "Too much was asked, or too many tokens were wrong.", "Retry-After"},
	http.StatusInternalServerError:   {"InternalError", "The daemon failed; its log says how.", ""},
	http.StatusNotImplemented:        {"NotImplemented", "The daemon is set up without this.", ""},
	http.StatusBadGateway:            {"BadGateway", "The vCenter does not answer, or not as it should.", ""},
	http.StatusServiceUnavailable:    {"Unavailable", "It cannot be done now: the store, the daemon, or who says what a token is worth is not available.", "Retry-After"},
	http.StatusGatewayTimeout:        {"Timeout", "It was not done in time.", ""},
	http.StatusInsufficientStorage:   {"InsufficientStorage", "There is no room to store it.", ""},
}

// fails says how a route may fail beside what all of them have in common.
var fails = map[string][]int{
	"GET /health/ready":            {http.StatusNotImplemented},
	"GET /metrics":                 {http.StatusNotImplemented},
	"GET /audit":                   {http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusNotImplemented},
	"POST /jobs/query":             {http.StatusBadRequest, http.StatusUnprocessableEntity},
	"POST /jobs/submit":            {http.StatusBadRequest, http.StatusConflict},
	"POST /jobs/check":             {http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusNotImplemented, http.StatusBadGateway},
	"POST /jobs/cancel":            {http.StatusBadRequest},
	"POST /jobs/retry":             {http.StatusBadRequest, http.StatusUnprocessableEntity},
	"POST /jobs/{id}/retry":        {http.StatusNotFound, http.StatusConflict},
	"POST /jobs/{id}/rollback":     {http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	"PUT /jobs/{id}/limit":         {http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	"GET /jobs/{id}":               {http.StatusNotFound},
	"DELETE /jobs/{id}":            {http.StatusNotFound, http.StatusConflict},
	"GET /jobs/{id}/events":        {http.StatusNotFound, http.StatusUnprocessableEntity},
	"GET /limits":                  {http.StatusNotImplemented},
	"PUT /limits":                  {http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusNotImplemented},
	"GET /rates":                   {http.StatusUnprocessableEntity, http.StatusNotImplemented},
	"GET /vms":                     {http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusNotImplemented, http.StatusBadGateway},
	"POST /vcenters/{name}/resume": {http.StatusNotFound},
	"POST /daemons/{id}/drain":     {http.StatusBadRequest, http.StatusNotFound},
	"POST /daemons/{id}/resume":    {http.StatusNotFound},
}

// Names of the security schemes.
const (
	schemeToken = "token"
	schemeMTLS  = "certificate"
)

// describe completes the description of the API as a whole, and of each operation.
func (b builder) describe() {
	o := b.h.OpenAPI()
	o.Info.Contact = &huma.Contact{Name: "hyper2kvm", URL: "https://github.com/hyper2kvm/hyper2kvm"}
	o.Info.License = &huma.License{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"}
	o.Servers = []*huma.Server{{URL: "/", Description: "The daemon that this description comes from"}}
	o.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		schemeToken: {
			Type: "http", Scheme: "bearer",
			Description: "A token made by `hyper2kvmd token create`, or a JWT of the configured OpenID Connect provider. " +
				"Users of the unix socket need none, nor, before the first token is made, anybody on the daemon's machine.",
		},
		schemeMTLS: {Type: "mutualTLS", Description: "A client certificate that the configuration gives a role."},
	}
	for _, t := range tags {
		if t.text != "" {
			o.Tags = append(o.Tags, &huma.Tag{Name: t.name, Description: t.text})
		}
	}
	o.Components.Responses = make(map[string]*huma.Response)
	for status := range failures {
		o.Components.Responses[failures[status].name] = b.failure(status)
	}
	for path, item := range o.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if op != nil {
				b.describeOperation(path, op)
			}
		}
	}
}

// failure is the component for a status of failure.
func (b builder) failure(status int) *huma.Response {
	f := failures[status]
	r := b.response(f.text, problemType, reflect.TypeFor[models.Problem]())
	switch f.header {
	case "Retry-After":
		r.Headers = map[string]*huma.Param{f.header: {
			Description: "Seconds after which asking again makes sense", Schema: &huma.Schema{Type: huma.TypeInteger},
		}}
	case "WWW-Authenticate":
		r.Headers = map[string]*huma.Param{f.header: {
			Description: "What is needed, as RFC 6750 says it", Schema: &huma.Schema{Type: huma.TypeString},
		}}
	}
	return r
}

// describeOperation adds what a route has in common with others.
func (b builder) describeOperation(path string, op *huma.Operation) {
	route := op.Method + " " + path
	i := slices.IndexFunc(tags, func(t struct{ prefix, name, text string }) bool { return strings.HasPrefix(path, t.prefix) })
	op.Tags = []string{tags[i].name}
	statuses := []int{http.StatusForbidden, http.StatusMisdirectedRequest, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	switch least := leastRole[route]; least {
	case access.Nobody:
		op.Security = []map[string][]string{}
		op.Description += " Open to everybody."
	default:
		op.Security = []map[string][]string{{schemeToken: {}}, {schemeMTLS: {}}}
		op.Description += " Needs the role " + least.String() + "."
		statuses = append(statuses, http.StatusUnauthorized, http.StatusGatewayTimeout)
	}
	if op.Method != http.MethodGet { // changes are written to the audit log first
		statuses = append(statuses, http.StatusInsufficientStorage)
	}
	op.Description = strings.TrimSpace(op.Description)
	if op.RequestBody != nil {
		statuses = append(statuses, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	for _, status := range append(statuses, fails[route]...) {
		key := strconv.Itoa(status)
		if op.Responses[key] == nil {
			op.Responses[key] = &huma.Response{Ref: "#/components/responses/" + failures[status].name}
		}
	}
}
