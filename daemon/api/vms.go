package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Bounds of a page of the inventory, in VMs.
const (
	defaultVMs = 500
	maxVMs     = 10000
)

type vmsInput struct {
	VCenter string `query:"vcenter" doc:"Name in the daemon's configuration; may be left out when there is a default"`
	Limit   int    `query:"limit" minimum:"0" maximum:"10000" doc:"VMs on a page; 0 means 500"`
	Cursor  string `query:"cursor" doc:"next_cursor of the page before"`
}

// vms lists the inventory in order of path. The cursor is the last path of a
// page, so that VMs that come and go between two pages neither repeat nor hide
// others.
func (a *API) vms(ctx context.Context, in *vmsInput) (*reply[models.VMPage], error) {
	after, err := base64.RawURLEncoding.DecodeString(in.Cursor)
	if err != nil {
		return nil, failure(http.StatusBadRequest, "vms: invalid cursor")
	}
	ctx, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	all, err := a.VMs(ctx, in.VCenter, nil)
	if err != nil {
		return nil, err
	}
	out := models.VMPage{VMs: []models.VM{}, Total: len(all), Timestamp: a.now()}
	first, _ := slices.BinarySearchFunc(all, string(after), func(v models.VM, after string) int {
		if v.Path <= after {
			return -1
		}
		return 1
	})
	if in.Cursor == "" {
		first = 0
	}
	limit := in.Limit
	if limit == 0 {
		limit = defaultVMs
	}
	rest := all[first:]
	if len(rest) > limit {
		rest = rest[:limit]
		out.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(rest[limit-1].Path))
	}
	out.VMs = append(out.VMs, rest...)
	return &reply[models.VMPage]{out}, nil
}

// VMs are all that GET /vms gives out in pages, in order of path. They take as long as
// the vCenter does, minutes where it is busy: ctx is the bound. seen is as that of
// [Inventory].
func (a *API) VMs(ctx context.Context, vcenter string, seen func(vms int)) ([]models.VM, error) {
	if err := a.need(ctx, "GET /vms"); err != nil {
		return nil, err
	}
	if a.o.Inventory == nil {
		return nil, failure(http.StatusNotImplemented, "vms: this daemon has no access to an inventory")
	}
	all, err := a.o.Inventory.VMs(ctx, vcenter, seen)
	if err != nil {
		return nil, a.vcenterFailed(ctx, "vms", err)
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(x, y models.VM) int { return strings.Compare(x.Path, y.Path) })
	return all, nil
}

func (a *API) check(ctx context.Context, in *rawInput) (*reply[models.CheckResult], error) {
	batch, err := decodeJobs(in.RawBody, in.ContentType)
	if err != nil {
		return nil, err
	}
	if len(batch.Jobs) != 1 {
		return nil, failure(http.StatusUnprocessableEntity, "check: give one job")
	}
	return answered(a.Check(ctx, batch.Jobs[0]))
}

// Check does what POST /jobs/check does.
func (a *API) Check(ctx context.Context, def job.Definition) (models.CheckResult, error) {
	if err := a.need(ctx, "POST /jobs/check"); err != nil {
		return models.CheckResult{}, err
	}
	if a.o.Inventory == nil {
		return models.CheckResult{}, failure(http.StatusNotImplemented, "check: this daemon has no access to an inventory")
	}
	def = def.WithDefaults()
	if err := def.Validate(); err != nil {
		return models.CheckResult{}, failure(http.StatusUnprocessableEntity, err.Error())
	}
	if err := a.jobs.Admit(def); err != nil {
		return models.CheckResult{}, failure(http.StatusUnprocessableEntity, refused(ctx, err))
	}
	ctx, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	out, err := a.o.Inventory.Check(ctx, def)
	if err != nil {
		return models.CheckResult{}, a.vcenterFailed(ctx, "check", err)
	}
	out.OK = !slices.ContainsFunc(out.Findings, func(f models.Finding) bool { return f.Severity == models.SeverityError })
	out.Timestamp = a.now()
	if out.Findings == nil {
		out.Findings = []models.Finding{}
	}
	return out, nil
}

// refused is why a job is not taken. What would be is for those to know who may
// submit one.
func refused(ctx context.Context, err error) string {
	var advice interface{ Hint() string }
	if errors.As(err, &advice) && access.FromContext(ctx).May(access.Operator) {
		return err.Error() + "; " + advice.Hint()
	}
	return err.Error()
}

// vcenterFailed maps an error of the Inventory.
func (a *API) vcenterFailed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil || errors.Is(err, ErrUnknownVCenter) || errors.Is(err, ErrNoInventory) {
		return a.fail(ctx, what, err)
	}
	return failure(http.StatusBadGateway, what+": "+err.Error())
}
