package migrate

import (
	"encoding/json"

	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
)

// saveCheckpoint writes down where the disk can be resumed. Whatever was written
// of it before that place must be durable. kind and place are those of the route
// that reads the disk.
func (d *diskRun) saveCheckpoint(kind string, place any) error {
	state, err := json.Marshal(place)
	if err != nil {
		return err
	}
	return d.r.work.SetDisk(d.key(), workdir.Disk{
		Part: d.part(), Capacity: d.disk.Capacity, Checkpoint: &workdir.Checkpoint{Kind: kind, State: state},
	})
}

// loadCheckpoint reads the disk's checkpoint into place, and reports whether there
// is one of that kind.
func (d *diskRun) loadCheckpoint(kind string, place any) bool {
	e, ok := d.r.work.Disk(d.key())
	return ok && e.Checkpoint != nil && e.Checkpoint.Kind == kind && e.Capacity == d.disk.Capacity &&
		json.Unmarshal(e.Checkpoint.State, place) == nil
}

// hasCheckpoint reports whether the ledger has a checkpoint of the disk, of
// whatever kind.
func (d *diskRun) hasCheckpoint() bool {
	e, ok := d.r.work.Disk(d.key())
	return ok && e.Checkpoint != nil
}

// forget drops whatever the ledger has of the disk.
func (d *diskRun) forget() error { return d.r.work.ForgetDisk(d.key()) }
