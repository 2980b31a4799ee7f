package api

import (
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// reply is a 200 with a JSON body.
type reply[T any] struct{ Body T }

// answered is a handler's answer of what an operation returns.
func answered[T any](body T, err error) (*reply[T], error) {
	if err != nil {
		return nil, err
	}
	return &reply[T]{body}, nil
}

// rawInput is a body that a handler decodes itself: job files come as JSON and
// YAML, and the framework's own decoding is less strict about JSON and tells
// values of the request in its errors.
type rawInput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte
}

// idInput is a path with a job's id.
type idInput struct {
	ID string `path:"id" doc:"Id of the job"`
}

// yamlTypes are the media types of a job file beside JSON.
var yamlTypes = [...]string{"application/x-yaml", "application/yaml", "text/yaml"}

// register adds every route and completes the OpenAPI description.
func (a *API) register(h huma.API) {
	b := builder{h: h, maxBody: a.o.MaxBody}

	health := b.op("health", "GET", "/health", "Is the daemon well")
	health.Description = "Whether it runs and its store can be used. What is wrong is told to operators."
	health.Responses["503"] = b.response("The daemon is not well", "application/json", reflect.TypeFor[models.Health]())
	huma.Register(h, health, a.health)
	status := b.op("status", "GET", "/status", "Version, uptime and job counts")
	status.Description = "Also which vCenters cannot be used, since when and why."
	huma.Register(h, status, a.status)

	submit, body := b.withBody(b.op("submit-jobs", "POST", "/jobs/submit", "Submit one job or a batch"))
	submit.Description = "The body is one job, {\"jobs\": […], \"atomic\": bool}, or a list of jobs, as JSON or YAML; " +
		"any other media type is tried as JSON, then YAML. Unknown keys are an error that names key and line. " +
		"200 when some job was accepted, 422 with the same body when none was. " +
		"507 when there is no room to store them."
	submit.Responses["422"] = b.response("Every job was rejected", "application/json", reflect.TypeFor[models.SubmitResult]())
	huma.Register(h, submit, a.submit)
	body.Content = b.jobFile(reflect.TypeFor[job.Definition](), reflect.TypeFor[models.Batch](), reflect.TypeFor[[]job.Definition]())

	query, body := b.withBody(b.op("query-jobs", "POST", "/jobs/query", "List jobs"))
	query.Description = "job_ids comes before all, all before status; without any of them every job matches. " +
		"Unknown ids are left out. Newest first, or in the order of job_ids. " +
		"An answer that ends before its JSON does was cut off: ask again."
	query.Responses["200"] = b.response("Jobs", "application/json", reflect.TypeFor[models.QueryResult]())
	huma.Register(h, query, a.query)
	body.Content = b.json(reflect.TypeFor[models.Query]())

	check, body := b.withBody(b.op("check-job", "POST", "/jobs/check", "Run preflight on a job"))
	check.Description = "Finds everything that stands in the job's way without moving a byte or queueing it."
	huma.Register(h, check, a.check)
	body.Content = b.jobFile(reflect.TypeFor[job.Definition]())

	cancel, body := b.withBody(b.op("cancel-jobs", "POST", "/jobs/cancel", "Cancel jobs"))
	cancel.Description = "Answers when the jobs' runs have really ended. Part files are removed unless keep_parts is set."
	huma.Register(h, cancel, a.cancel)
	body.Content = b.json(reflect.TypeFor[models.Cancel]())

	get := b.op("get-job", "GET", "/jobs/{id}", "One job")
	get.Description = "With its progress and, once it has ended, its result."
	huma.Register(h, get, a.job)
	del := b.op("delete-job", "DELETE", "/jobs/{id}", "Forget a finished job")
	del.Description = "What the job wrote to disk stays."
	huma.Register(h, del, a.delete)

	b.registerRecovery(a)
	b.registerRollback(a)
	b.registerLimits(a)
	b.registerAudit(a)
	b.registerWatch(a)
	b.registerRates(a)
	b.registerDaemons(a)

	events := b.op("watch-job", "GET", "/jobs/{id}/events", "Follow a job")
	events.Description = "Server-sent events named state, log and progress, each with an Event as data: first those kept, then new ones. " +
		"State and log events have ids to resume after with Last-Event-ID; progress comes at most once a second and is not kept. " +
		"The stream ends after the final state. 204 when the job has ended and nothing is left to tell."
	events.Responses["200"] = b.response("Events", "text/event-stream", reflect.TypeFor[models.Event]())
	events.Responses["204"] = &huma.Response{Description: "The job has ended, and there is nothing after Last-Event-ID"}
	huma.Register(h, events, a.events)

	vms := b.op("list-vms", "GET", "/vms", "VMs of a vCenter")
	vms.Description = "By path, a page at a time, with what would stand in the way of an export as far as the inventory shows it."
	huma.Register(h, vms, a.vms)
	b.finish()
	b.describe()
}

// builder makes the description of operations.
type builder struct {
	h       huma.API
	maxBody int64
}

func (b builder) schema(t reflect.Type) *huma.Schema {
	return b.h.OpenAPI().Components.Schemas.Schema(t, true, "")
}

func (b builder) response(text, mediaType string, t reflect.Type) *huma.Response {
	return &huma.Response{
		Description: text,
		Content:     map[string]*huma.MediaType{mediaType: {Schema: b.schema(t)}},
	}
}

func (b builder) op(id, method, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary,
		Responses: map[string]*huma.Response{
			"default": b.response("Error", problemType, reflect.TypeFor[models.Problem]()),
		},
	}
}

// withBody is for operations with a rawInput. The returned body is to be given
// its content after the operation was registered.
func (b builder) withBody(op huma.Operation) (huma.Operation, *huma.RequestBody) {
	op.RequestBody = &huma.RequestBody{}
	op.SkipValidateBody = true
	op.MaxBodyBytes = b.maxBody
	op.BodyReadTimeout = readTimeout
	return op, op.RequestBody
}

func (b builder) json(t reflect.Type) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{"application/json": {Schema: b.schema(t)}}
}

// jobFile is a body that has one of the shapes, as JSON or YAML.
func (b builder) jobFile(shapes ...reflect.Type) map[string]*huma.MediaType {
	s := &huma.Schema{}
	for _, t := range shapes {
		s.AnyOf = append(s.AnyOf, b.schema(t))
	}
	if len(shapes) == 1 {
		s = s.AnyOf[0]
	}
	content := map[string]*huma.MediaType{"application/json": {Schema: s}}
	for _, t := range yamlTypes {
		content[t] = &huma.MediaType{Schema: s}
	}
	return content
}

// finish corrects what the framework makes of the types.
func (b builder) finish() {
	schemas := b.h.OpenAPI().Components.Schemas.Map()
	// Its own error type, which asProblem replaces.
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	// Fields may be added to answers, so only what is sent in is closed.
	for name, s := range schemas {
		switch name {
		case "JobDefinition", "JobOptions", "Batch", "Query", "Cancel", "Retry", "Rollback", "SetLimit":
		default:
			if s.AdditionalProperties == false {
				s.AdditionalProperties = nil
			}
		}
	}
	// It cannot say that a reference may be null.
	j := schemas["Job"]
	j.Properties["result"] = &huma.Schema{AnyOf: []*huma.Schema{j.Properties["result"], {Type: "null"}}}
	// It takes omitzero fields for required ones.
	def := schemas["JobDefinition"]
	def.Required = slices.DeleteFunc(def.Required, func(s string) bool {
		return s == "options" || s == "created_at"
	})
}
