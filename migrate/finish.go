package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// finishStep marks the source, after everything else has succeeded, so that nobody takes
// it for the machine that is in use now. How it was before is in the receipt, for
// [Migrator.Rollback].
type finishStep struct{ r *run }

// finishNotes are what the step writes down before it changes anything.
type finishNotes struct {
	Mark vsphere.Mark `json:"mark"`
	UUID string       `json:"instance_uuid"`
	Ref  string       `json:"ref"`
	Path string       `json:"path"`
}

func (s *finishStep) phase() progress.Phase { return progress.Finishing }

func (s *finishStep) asked() string {
	var words []string
	for _, f := range s.r.def.Options.Finishes() {
		words = append(words, string(f))
	}
	return strings.Join(words, ",")
}

// obstacles are told by [vsphere.Client.Preflight], which looks at the VM anyway. Where
// the export is there already, it is not asked, and the call itself names what is missing.
func (s *finishStep) obstacles(context.Context) []vsphere.Obstacle { return nil }

func (s *finishStep) do(ctx context.Context, f *finished) error {
	r := s.r
	m, err := r.client.PlanMark(ctx, r.vm, r.markOptions())
	if err != nil {
		return err
	}
	if err := f.note(finishNotes{m, r.vm.InstanceUUID, r.vm.Ref, r.vm.Path}); err != nil {
		return err
	}
	if err := r.client.Apply(ctx, r.vm, m); err != nil {
		return err
	}
	f.Mark = &m
	for _, what := range markText(m) {
		r.info("", "source %s: %s", r.vm.Path, what)
	}
	return nil
}

// settle undoes the marks: the next run makes them anew.
func (s *finishStep) settle(ctx context.Context, notes json.RawMessage, _ *job.Result) (bool, error) {
	var n finishNotes
	if err := json.Unmarshal(notes, &n); err != nil {
		return false, nil //nolint:nilerr // nothing was noted, so that nothing was changed
	}
	c, end, err := s.r.connected(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	left, err := c.Undo(ctx, vsphere.VM{Ref: n.Ref, Path: n.Path, InstanceUUID: n.UUID}, n.Mark)
	for _, what := range left {
		s.r.note("%s: %s; that stays", n.Path, what)
	}
	if errors.Is(err, vsphere.ErrNotFound) {
		return false, nil
	}
	return false, err
}

// connected is the run's session or, where it has none, one of its own.
func (r *run) connected(ctx context.Context) (c *vsphere.Client, end func(), err error) {
	if r.client != nil {
		return r.client, func() {}, nil
	}
	cfg, err := r.m.Endpoint(r.def)
	if err != nil {
		return nil, nil, fault.Permanent(err)
	}
	if c, err = r.dial(ctx, cfg); err != nil {
		return nil, nil, err
	}
	return c, func() { _ = detached(ctx, c.Close) }, nil
}

// markOptions is how the job has its source marked.
func (r *run) markOptions() (o vsphere.MarkOptions) {
	day := r.started.Format(time.DateOnly)
	for _, f := range r.def.Options.Finishes() {
		switch f {
		case job.FinishTag:
			o.Attribute = "migrated " + day
		case job.FinishRename:
			if !strings.Contains(r.vm.Name, "-migrated-") {
				o.Rename = vsphere.MarkName(path.Base(r.vm.Path), "-migrated-"+day)
			}
		case job.FinishDisconnect:
			o.Disconnect = true
		}
	}
	return o
}

// markText says what is different about a VM that is marked.
func markText(m vsphere.Mark) (out []string) {
	if m.Attribute != nil {
		out = append(out, fmt.Sprintf("custom attribute %s: %s", vsphere.MarkAttribute, m.Attribute.After))
	}
	if m.Name != nil {
		out = append(out, "renamed to "+m.Name.After)
	}
	for _, c := range m.Cards {
		out = append(out, fmt.Sprintf("%s (%s) does not connect at power-on", c.Label, c.MAC))
	}
	return out
}

// formerly is what an earlier run of the job has renamed, or was about to: the VM's UUID,
// and its inventory path before. is says which VM is meant.
func (r *run) formerly(is func(uuid, was, now string) bool) (uuid, was string) {
	if r.def.OutputPath == "" {
		return "", ""
	}
	begun, _ := workdir.List(r.m.Outputs, r.def.OutputPath)
	done, _ := workdir.Receipts(r.m.Outputs, r.def.OutputPath)
	for _, base := range append(begun, done...) {
		if uuid, was, now := r.renamed(base); now != "" && is(uuid, was, now) {
			return uuid, was
		}
	}
	return "", ""
}

// renamed is what the export with that base has renamed: the VM's UUID, its path before,
// and its name since; all "" when it has not.
func (r *run) renamed(base string) (uuid, was, now string) {
	w, _ := workdir.Peek(r.m.Outputs, r.def.OutputPath, base)
	defer w.Release()
	if s, begun := w.Step(); begun && s.Name == string(progress.Finishing) {
		var n finishNotes
		if json.Unmarshal(s.Notes, &n) == nil && n.Mark.Name != nil {
			return n.UUID, n.Path, n.Mark.Name.After
		}
	}
	if receipt, err := w.ReadReceipt(); err == nil && receipt.Mark != nil && receipt.Mark.Name != nil {
		return receipt.InstanceUUID, receipt.VMPath, receipt.Mark.Name.After
	}
	return "", "", ""
}

// rename gives the VM that was found, or was not because it is called otherwise now, the
// name that it had when its export began: that of its files.
func (r *run) rename(ctx context.Context, found error) error {
	switch {
	case errors.Is(found, vsphere.ErrNotFound):
		uuid, was := r.formerly(func(_, was, _ string) bool { return r.def.VMPath == was || r.def.VMPath == path.Base(was) })
		if uuid == "" {
			return found
		}
		vm, err := r.client.Find(ctx, uuid)
		if err != nil {
			return errors.Join(found, err)
		}
		r.vm = vm
		r.vm.Name, r.vm.Path = path.Base(was), was
		return nil
	case found == nil && r.vm.InstanceUUID != "":
		if _, was := r.formerly(func(uuid, _, now string) bool { return uuid == r.vm.InstanceUUID && now == r.vm.Name }); was != "" {
			r.vm.Name, r.vm.Path = path.Base(was), was
		}
	}
	return found
}
