package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// columns are what [scanRow] reads.
const columns = `seq, id, definition, secret, vcenter, status, claimable_at, epoch, failures, cancel,
	progress, result, error, started_at, completed_at, updated_at, deaths`

// row is a row of table jobs.
type row struct {
	seq         int64
	id          string
	definition  []byte
	secret      []byte
	vcenter     string
	status      models.Status
	claimableAt sql.NullInt64
	epoch       int64
	failures    int
	cancel      string
	progress    []byte
	result      []byte
	failure     string
	startedAt   sql.NullInt64
	completedAt sql.NullInt64
	updatedAt   int64
	deaths      int
	ran         int  // only for find
	dropped     bool // only for find: the password that the job brought is not kept any more
}

func scanRow(scan func(...any) error) (r row, err error) {
	err = scan(&r.seq, &r.id, &r.definition, &r.secret, &r.vcenter, &r.status, &r.claimableAt, &r.epoch,
		&r.failures, &r.cancel, &r.progress, &r.result, &r.failure, &r.startedAt, &r.completedAt, &r.updatedAt, &r.deaths)
	return r, err
}

// job returns the row as others see it at that moment.
func (r *row) job(m clock.Moment) (models.Job, error) {
	j := models.Job{
		Status:      r.status,
		Progress:    new(models.Progress),
		Error:       r.failure,
		StartedAt:   when(r.startedAt),
		CompletedAt: when(r.completedAt),
		UpdatedAt:   time.UnixMilli(r.updatedAt).UTC(),
		Attempts:    r.failures,
		Cancelling:  r.cancel != "",
	}
	if err := json.Unmarshal(r.definition, &j.Definition); err != nil {
		return models.Job{}, fmt.Errorf("job %s: stored definition: %w", r.id, err)
	}
	if err := json.Unmarshal(r.progress, j.Progress); err != nil {
		return models.Job{}, fmt.Errorf("job %s: stored progress: %w", r.id, err)
	}
	if r.result != nil {
		j.Result = new(job.Result)
		if err := json.Unmarshal(r.result, j.Result); err != nil {
			return models.Job{}, fmt.Errorf("job %s: stored result: %w", r.id, err)
		}
	}
	if r.status == models.StatusPending && r.claimableAt.Int64 > millis(m.Steady) {
		at := m.Shown(time.UnixMilli(r.claimableAt.Int64))
		j.NextAttempt = &at
	}
	return j, nil
}

// views are rows as others see them at that moment.
func views(all []row, m clock.Moment) ([]models.Job, error) {
	shown := make([]models.Job, len(all))
	for i, r := range all {
		var err error
		if shown[i], err = r.job(m); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

// cancelled returns the request to cancel, or nil.
func (r *row) cancelled() *job.Cancelled {
	if r.cancel == "" {
		return nil
	}
	return &job.Cancelled{KeepParts: r.cancel == cancelKeep}
}

// optional encodes a value to be stored, nil as NULL.
func optional[T any](v *T) (any, error) {
	if v == nil {
		return nil, nil
	}
	data, err := json.Marshal(v)
	return string(data), err
}

// marks returns n comma-separated parameter marks.
func marks(n int) string {
	return strings.TrimSuffix(strings.Repeat("?, ", n), ", ")
}

// anys are values as arguments.
func anys[T any](values []T) []any {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return args
}

func when(ms sql.NullInt64) *time.Time {
	if !ms.Valid {
		return nil
	}
	t := time.UnixMilli(ms.Int64).UTC()
	return &t
}
