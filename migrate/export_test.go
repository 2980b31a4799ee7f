package migrate

import (
	"context"
	"encoding/json"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// TestStep is a step that a test makes up.
type TestStep struct {
	Name      string
	Asked     string
	Obstacles func() []vsphere.Obstacle
	Do        func(ctx context.Context, note func(any) error) error
	Settle    func(ctx context.Context, notes string) (bool, error)
}

func (s TestStep) phase() progress.Phase { return progress.Phase(s.Name) }
func (s TestStep) asked() string         { return s.Asked }

func (s TestStep) obstacles(context.Context) []vsphere.Obstacle {
	if s.Obstacles == nil {
		return nil
	}
	return s.Obstacles()
}

func (s TestStep) do(ctx context.Context, f *finished) error { return s.Do(ctx, f.note) }

func (s TestStep) settle(ctx context.Context, notes json.RawMessage, _ *job.Result) (bool, error) {
	if s.Settle == nil {
		return false, nil
	}
	return s.Settle(ctx, string(notes))
}

// SetSteps makes these all the steps there are.
func (m *Migrator) SetSteps(steps ...TestStep) {
	m.steps = func(*run) []step {
		out := make([]step, len(steps))
		for i := range steps {
			out[i] = steps[i]
		}
		return out
	}
}

// TestPart is a part of what is done inside the guest's disks that a test makes up. Do
// gets the overlays.
type TestPart struct {
	Name  string
	Asked bool
	Room  int64
	Do    func(ctx context.Context, overlays []string) error
}

func (p TestPart) name() string                                 { return p.Name }
func (p TestPart) asked() bool                                  { return p.Asked }
func (p TestPart) room() int64                                  { return p.Room }
func (p TestPart) obstacles(context.Context) []vsphere.Obstacle { return nil }
func (p TestPart) do(ctx context.Context, g *inside) error      { return p.Do(ctx, g.Overlays()) }

// SetParts makes these all the parts there are.
func (m *Migrator) SetParts(parts ...TestPart) {
	m.parts = func(*run) []part {
		out := make([]part, len(parts))
		for i := range parts {
			out[i] = parts[i]
		}
		return out
	}
}
