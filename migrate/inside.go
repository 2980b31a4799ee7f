package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/overlay"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// insideStep is the step that changes what is inside the guest's disks. It has parts,
// which work one after the other on the same overlays; the images get all of it, or
// nothing. A part that an earlier run has done is not done again.
type insideStep struct{ *run }

// part is one thing that is done inside the guest's disks.
type part interface {
	// name is the part's name in the receipt.
	name() string
	// asked says whether the job asks for it.
	asked() bool
	// obstacles are as those of a step.
	obstacles(ctx context.Context) []vsphere.Obstacle
	// room is how many bytes it will write at least.
	room() int64
	// do works on the overlays, in bounded time, and returns soon after ctx ends. It
	// leaves the images alone, and whatever else the export has.
	do(ctx context.Context, g *inside) error
}

// inside are the disks of a guest, open for a change.
type inside struct {
	*overlay.Change
	// result is what the export has so far. It is to be read only.
	result *job.Result
	// did is what the parts have done, for the result. It counts once the change is made.
	did insideResult
}

// insideResult is what parts have done, in the words of a [job.Result].
type insideResult struct {
	Converted *job.Converted `json:"converted,omitempty"`
	// NetworkKept is as in the result.
	NetworkKept []string `json:"network_kept,omitempty"`
	Notes       []string `json:"notes,omitempty"`
	Described   []string `json:"described,omitempty"` // notes about the domain and the landing kits, which are new
}

// tell enters it into the result of the export, and into its notes.
func (d insideResult) tell(result *job.Result, notes []string) []string {
	if d.Converted != nil {
		result.Converted = d.Converted
		notes = redescribed(notes, d.Described)
	}
	if d.NetworkKept != nil {
		result.NetworkKept = d.NetworkKept
	}
	return append(slices.Clone(notes), d.Notes...)
}

// insideNotes are what the step has in the ledger.
type insideNotes struct {
	Journal overlay.Journal `json:"journal"`
	Did     insideResult    `json:"did,omitzero"`
}

// parts are those there are, in their order.
func (s *insideStep) parts() []part {
	if s.m.parts != nil {
		return s.m.parts(s.run)
	}
	return []part{&convertPart{s.run}, &keepIPPart{s.run}}
}

func (s *insideStep) phase() progress.Phase { return progress.Converting }

func (s *insideStep) asked() string {
	var names []string
	for _, p := range s.parts() {
		if p.asked() {
			names = append(names, p.name())
		}
	}
	return strings.Join(names, ",")
}

// missing are the parts that the job asks for and the export has not had.
func (s *insideStep) missing(receipt *workdir.Receipt) (out []part) {
	var done []string
	for _, d := range receipt.Steps {
		if d.Name == string(s.phase()) {
			done = append(done, strings.Split(d.Asked, ",")...)
		}
	}
	for _, p := range s.parts() {
		if p.asked() && !slices.Contains(done, p.name()) {
			out = append(out, p)
		}
	}
	return out
}

func (s *insideStep) obstacles(ctx context.Context) (out []vsphere.Obstacle) {
	for _, p := range s.parts() {
		if !p.asked() {
			continue
		}
		for _, o := range p.obstacles(ctx) {
			// What is wrong with this machine is in the way of all parts.
			if !slices.ContainsFunc(out, func(told vsphere.Obstacle) bool { return told.Text == o.Text }) {
				out = append(out, o)
			}
		}
	}
	return out
}

// machineObstacles are problems of this machine, in the way of what has the code.
func machineObstacles(code string, problems []appliance.Problem) (out []vsphere.Obstacle) {
	for _, p := range problems {
		o := vsphere.Obstacle{Code: code, Severity: vsphere.SeverityWarning, Text: p.Text, Hint: p.Hint}
		if p.Fatal {
			o.Severity = vsphere.SeverityError
		}
		out = append(out, o)
	}
	return out
}

func (s *insideStep) do(ctx context.Context, f *finished) error {
	parts := s.missing(f.Receipt)
	if len(parts) == 0 {
		return nil
	}
	var room int64
	for _, p := range parts {
		room += p.room()
	}
	var g inside
	disks := s.overlays(f.Result.Disks)
	for _, d := range disks {
		f.step.Files = append(f.step.Files, path.Base(d.Overlay))
	}
	var err error
	g.result = &f.Result
	g.Change, err = overlay.Open(ctx, filepath.Dir(s.work.Path()), disks, room, func(j overlay.Journal) error {
		for _, file := range j.Files {
			if name := path.Base(file.From); !slices.Contains(f.step.Files, name) {
				f.step.Files = append(f.step.Files, name)
			}
		}
		return f.note(insideNotes{j, g.did})
	})
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := p.do(ctx, &g); err != nil {
			return err
		}
	}
	committing := s.slow("", "writing the changes into the images")
	defer committing.end()
	if err := g.Commit(ctx); err != nil {
		return err
	}
	s.notes = g.did.tell(&f.Result, s.notes)
	return nil
}

// overlays are the images of the export, with the overlays that they get.
func (s *insideStep) overlays(images []job.DiskResult) (out []overlay.Disk) {
	for i, d := range images {
		name := filepath.Base(d.File)
		out = append(out, overlay.Disk{
			Image: name, Format: strings.TrimPrefix(filepath.Ext(name), "."),
			Overlay: s.inWork(fmt.Sprintf("overlay-%d.qcow2", i)),
		})
	}
	return out
}

// inWork is the path of a file of the work directory, relative to the output directory.
func (r *run) inWork(name string) string {
	return path.Join(filepath.Base(r.work.Path()), name)
}

func (s *insideStep) settle(ctx context.Context, notes json.RawMessage, result *job.Result) (bool, error) {
	if len(notes) == 0 {
		return false, nil // there is no overlay yet
	}
	var n insideNotes
	if err := json.Unmarshal(notes, &n); err != nil {
		return false, fault.Permanent(fmt.Errorf("its notes cannot be read: %w", err))
	}
	done, err := overlay.Settle(ctx, filepath.Dir(s.work.Path()), n.Journal, func(j overlay.Journal) error {
		begun, _ := s.work.Step()
		f := finished{work: s.work, step: begun}
		return f.note(insideNotes{j, n.Did})
	})
	if done && err == nil {
		result.Notes = n.Did.tell(result, result.Notes)
	}
	return done, err
}
