package models

import (
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// Health is the body of GET /health, with status 200 when the daemon is healthy
// and 503 when it is not.
type Health struct {
	Status    string    `json:"status" enum:"healthy,unhealthy" doc:"Unhealthy when the jobs' store cannot be used: running jobs go on, no other is accepted or started"`
	Error     string    `json:"error,omitempty" doc:"What is wrong, and what to do"`
	Warnings  []string  `json:"warnings,omitempty" nullable:"false" doc:"What a person should see to although the daemon is healthy"`
	Timestamp time.Time `json:"timestamp"`
}

// Values of [Health.Status].
const (
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// Readiness is the body of GET /health/ready, with status 200 when the daemon is
// ready and 503 when it is not.
type Readiness struct {
	Status    string    `json:"status" enum:"ready,not_ready" doc:"Not ready when work that is accepted now could not be done"`
	Reasons   []Reason  `json:"reasons,omitempty" nullable:"false" doc:"What a person should see to; for operators only"`
	Timestamp time.Time `json:"timestamp"`
}

// Values of [Readiness.Status].
const (
	Ready    = "ready"
	NotReady = "not_ready"
)

// Reason is something that a person should see to.
type Reason struct {
	Check    string `json:"check" enum:"store,space,vcenter,certificate" doc:"What was looked at"`
	Name     string `json:"name,omitempty" doc:"Which one"`
	Severity string `json:"severity" enum:"error,warning" doc:"With error the daemon is not ready because of it"`
	Message  string `json:"message"`
}

// DaemonStatus is the body of GET /status.
type DaemonStatus struct {
	Version       string    `json:"version"`
	Uptime        string    `json:"uptime" doc:"Go duration, such as 2h3m4s"`
	TotalJobs     int       `json:"total_jobs"`
	PendingJobs   int       `json:"pending_jobs"`
	RunningJobs   int       `json:"running_jobs"`
	CompletedJobs int       `json:"completed_jobs"`
	FailedJobs    int       `json:"failed_jobs"`
	CancelledJobs int       `json:"cancelled_jobs"`
	VCenters      []VCenter `json:"vcenters" nullable:"false" doc:"Those that cannot be used, so that jobs wait for them"`
	Timestamp     time.Time `json:"timestamp"`
}

// VCenter is a vCenter that cannot be used.
type VCenter struct {
	Name      string    `json:"name" doc:"As in the daemon's configuration, the host of a job's vcenter_url, or default"`
	State     string    `json:"state" doc:"unreachable, misconfigured or login_refused; the last one holds no jobs that bring a user of their own"`
	Since     time.Time `json:"since"`
	Reason    string    `json:"reason"`
	NextProbe time.Time `json:"next_probe" doc:"When it is tried again; with login_refused, when it is looked whether the password has changed"`
	Waiting   int       `json:"waiting" doc:"Pending jobs"`
}

// Resumed is the answer to POST /vcenters/{name}/resume.
type Resumed struct {
	Name      string    `json:"name"`
	Timestamp time.Time `json:"timestamp"`
}

// Retry is the body of POST /jobs/retry: ids or statuses.
type Retry struct {
	JobIDs []string `json:"job_ids,omitempty"`
	Status []Status `json:"status,omitempty" doc:"failed, cancelled, or both"`
}

// RetryResult is the answer to POST /jobs/retry.
type RetryResult struct {
	Retried   []string          `json:"retried" nullable:"false" doc:"Ids of the jobs that are pending again"`
	Failed    []string          `json:"failed" nullable:"false"`
	Errors    map[string]string `json:"errors" doc:"Why, by job id"`
	Timestamp time.Time         `json:"timestamp"`
}

// Batch is the body of POST /jobs/submit when several jobs go together.
type Batch struct {
	Jobs   []job.Definition `json:"jobs"`
	Atomic bool             `json:"atomic,omitempty" doc:"Accept every job or none"`
}

// SubmitResult is the answer to POST /jobs/submit, with status 200 when some
// job was accepted and 422 when none was.
type SubmitResult struct {
	JobIDs    []string  `json:"job_ids" nullable:"false" doc:"Ids of the accepted jobs, in the order of the request"`
	Accepted  int       `json:"accepted"`
	Rejected  int       `json:"rejected"`
	Errors    []string  `json:"errors" nullable:"false" doc:"Why jobs were rejected; names the job and the field, never a value"`
	Timestamp time.Time `json:"timestamp"`
}

// Query is the body of POST /jobs/query. JobIDs comes before All, All before
// Status; without any of them every job matches.
type Query struct {
	JobIDs []string `json:"job_ids,omitempty"`
	Status []Status `json:"status,omitempty"`
	All    bool     `json:"all,omitempty"`
	Limit  int      `json:"limit,omitempty" doc:"Jobs on a page; 0 is all of them"`
	Cursor string   `json:"cursor,omitempty" doc:"next_cursor of the page before"`
}

// QueryResult is the answer to POST /jobs/query, newest job first unless ids
// were asked for, which keep their order. Unknown ids are left out.
type QueryResult struct {
	Jobs []Job `json:"jobs" nullable:"false"`
	QueryTail
}

// QueryTail is what a [QueryResult] has beside the jobs.
type QueryTail struct {
	Total      int       `json:"total" doc:"Jobs that match, on this page and all others"`
	NextCursor string    `json:"next_cursor,omitempty" doc:"Absent on the last page"`
	Timestamp  time.Time `json:"timestamp"`
}

// Cancel is the body of POST /jobs/cancel.
type Cancel struct {
	JobIDs    []string `json:"job_ids"`
	KeepParts bool     `json:"keep_parts,omitempty" doc:"Keep part files, so that a retry resumes from them"`
}

// CancelResult is the answer to POST /jobs/cancel. A job is in Cancelled only
// after its run has ended: lease aborted, snapshot removed.
type CancelResult struct {
	Cancelled []string          `json:"cancelled" nullable:"false"`
	Failed    []string          `json:"failed" nullable:"false"`
	Errors    map[string]string `json:"errors" doc:"Why, by job id"`
	Timestamp time.Time         `json:"timestamp"`
}

// Rollback is the body of POST /jobs/{id}/rollback, which may be left out.
type Rollback struct {
	StopTimeout     string `json:"stop_timeout,omitempty" doc:"How long the landed guest may take to shut down before it is switched off, as 10m; left out, 5m"`
	TargetIsStopped bool   `json:"target_is_stopped,omitempty" doc:"Do not ask libvirt: you know that the guest is off. If it runs, two machines have the same addresses and names"`
	Password        string `json:"password,omitempty" doc:"Of a job that brought a user of its own along"`
}

// VM is one virtual machine of a vCenter's inventory.
type VM struct {
	Name        string   `json:"name"`
	Path        string   `json:"path" doc:"Inventory path, as a job's vm_path takes it"`
	UUID        string   `json:"uuid,omitempty" doc:"Instance UUID, which a job's vm_path takes as well"`
	PowerState  string   `json:"power_state"`
	GuestOS     string   `json:"guest_os,omitempty"`
	CPUs        int      `json:"cpus,omitempty"`
	MemoryBytes int64    `json:"memory_bytes,omitempty"`
	DiskBytes   int64    `json:"disk_bytes,omitempty" doc:"Space the VM takes on its datastores"`
	Disks       int      `json:"disks,omitempty" doc:"How many it has"`
	Host        string   `json:"host,omitempty" doc:"ESXi host that it is on"`
	Datastores  []string `json:"datastores,omitempty"`
	Firmware    string   `json:"firmware,omitempty" doc:"bios or efi"`
	Template    bool     `json:"template,omitempty"`
	Snapshots   int      `json:"snapshots,omitempty" doc:"How many it has"`
	Connection  string   `json:"connection_state,omitempty" doc:"As vSphere says it; connected unless something is wrong"`
	Problem     string   `json:"problem,omitempty" doc:"Code of the worst that is known to stand in the way of an export, of a VM that runs of one from a temporary snapshot; POST /check tells everything"`
}

// VMPage is the body of GET /vms: VMs in order of path.
type VMPage struct {
	VMs        []VM      `json:"vms" nullable:"false"`
	Total      int       `json:"total" doc:"VMs in the inventory"`
	NextCursor string    `json:"next_cursor,omitempty" doc:"Absent on the last page"`
	Timestamp  time.Time `json:"timestamp"`
}

// Rates is the body of GET /rates: how fast bytes came off the wire, step by step.
type Rates struct {
	Window         string     `json:"window" enum:"hour,day,month"`
	Start          time.Time  `json:"start" doc:"Of the first step"`
	StepSeconds    int        `json:"step_seconds" doc:"From one step to the next"`
	End            time.Time  `json:"end" doc:"Of the last step, which may be shorter than the others"`
	BytesPerSecond []int64    `json:"bytes_per_second" nullable:"false" doc:"Of all daemons on the store together, for each step"`
	Hosts          []HostRate `json:"hosts" nullable:"false" doc:"Those through which any came, most bytes first"`
	Timestamp      time.Time  `json:"timestamp"`
}

// HostRate is what came through one ESXi host.
type HostRate struct {
	Host           string  `json:"host" doc:"As vSphere names it; empty for what came through none that is known"`
	Bytes          int64   `json:"bytes"`
	BytesPerSecond []int64 `json:"bytes_per_second" nullable:"false" doc:"For each step"`
}

// Finding is one thing that preflight has to say about a job.
type Finding struct {
	Severity string `json:"severity" enum:"error,warning,info" doc:"A job with an error would fail"`
	Code     string `json:"code" doc:"Stable name of the check"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty" doc:"What to try"`
}

// Severities of a [Finding].
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
	SeverityInfo    = "info"
)

// CheckResult is the answer to POST /jobs/check: everything that stands in the
// job's way, found without moving a byte.
type CheckResult struct {
	OK        bool      `json:"ok" doc:"True when no finding is an error"`
	VM        *VM       `json:"vm,omitempty" doc:"The VM that vm_path stands for"`
	Findings  []Finding `json:"findings" nullable:"false"`
	Timestamp time.Time `json:"timestamp"`
}

// Problem is the body of every error: RFC 9457 members, and beside them the
// error text and the time that the contract promises. It echoes no value of
// the request.
type Problem struct {
	Type      string          `json:"type,omitempty" doc:"About:blank when absent"`
	Title     string          `json:"title" doc:"Text of the HTTP status"`
	Status    int             `json:"status"`
	Detail    string          `json:"detail,omitempty"`
	Instance  string          `json:"instance,omitempty"`
	Errors    []ProblemDetail `json:"errors,omitempty"`
	Error     string          `json:"error" doc:"One line for people: detail and errors"`
	Timestamp time.Time       `json:"timestamp"`
}

// ProblemDetail is one of several causes of a [Problem].
type ProblemDetail struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" doc:"Where in the request, such as body.limit"`
}

// SetLimit is the body of PUT /limits and PUT /jobs/{id}/limit.
type SetLimit struct {
	Limit string `json:"limit" doc:"Bandwidth, such as 200MB/s, 25MiB/s or 1Gbit/s; \"none\" is no limit"`
}

// Limits is the answer to GET and PUT /limits.
type Limits struct {
	Limit          string    `json:"limit" doc:"Bandwidth of all jobs together, \"none\" when there is no limit"`
	BytesPerSecond int64     `json:"bytes_per_second" doc:"The same as a number, 0 when there is no limit"`
	Shared         bool      `json:"shared,omitempty" doc:"The limit holds for the jobs of all daemons on the store together"`
	Shares         []Share   `json:"shares,omitempty" doc:"What each daemon has of the limits that they share: bandwidth, disks"`
	Timestamp      time.Time `json:"timestamp"`
}

// Share is what one daemon has of a limit that daemons share.
type Share struct {
	Name    string `json:"name" doc:"Of the limit, such as bandwidth, in bytes per second, or disks of vCenter HOST"`
	Limit   int64  `json:"limit" doc:"Of all daemons together; 0 is none"`
	Daemon  string `json:"daemon" doc:"Id of the daemon"`
	Held    int64  `json:"held" doc:"What it may use of it"`
	Waiting int64  `json:"waiting" doc:"How much more of what is counted one by one it waits for"`
}

// Bandwidth reports whether the limit is in bytes per second, and not a number of
// places.
func (s Share) Bandwidth() bool { return strings.HasPrefix(s.Name, "bandwidth") }
