package migrate_test

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// A panic in a goroutine of one disk is the end of its job, which leaves nothing at
// vSphere. The process, and the other jobs in it, go on.
func TestAPanicInAGoroutineOfOneDiskIsTheEndOfItsJobOnly(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 4*mib, extent{0, 4 * mib, false})
	b := newFlatBench(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "guest1", CBT: true, ISO: []byte("an ISO image")},
		{Name: "guest2", Disks: []vspheretest.Disk{{Path: disk}}},
	}}, disk, disk)
	before := b.CDROM("guest1")
	// What a Migrator is given to be told of outages is called by who waits: here by
	// a disk, which asks for the areas of its file.
	var once, told sync.Once
	up, panicked := make(chan func(), 1), make(chan struct{})
	b.OnCall("QueryChangedDiskAreas", func() { once.Do(func() { up <- b.Down(vspheretest.Control, vspheretest.Refuse) }) })
	flawed := *b.m
	flawed.Endpoint = func(job.Definition) (vsphere.Config, error) {
		cfg := b.config()
		cfg.OnOutage = func(vsphere.Outage) {
			told.Do(func() {
				(<-up)()
				close(panicked)
				panic("boom")
			})
		}
		return cfg, nil
	}
	var log bytes.Buffer
	flawed.Log = slog.New(slog.NewTextHandler(&log, nil))

	other := b.job(job.FormatQcow2)
	other.VMPath, other.OutputPath = "guest2", filepath.Join(t.TempDir(), "other")
	b.OnByte("guest2", 0, mib, func() { // it is in its midst when that happens
		select {
		case <-panicked:
		case <-t.Context().Done():
		}
	})
	var going sync.WaitGroup
	going.Go(func() {
		if _, err := b.m.Run(t.Context(), other, progress.New()); err != nil {
			t.Errorf("the other job: %v", err)
		}
	})
	def := b.by(job.TransportDatastore, job.FormatRaw)
	def.Options.RemoveCDROM = true
	_, err := flawed.Run(t.Context(), def, progress.New())
	going.Wait()

	var p *panics.Error
	if !errors.As(err, &p) || !migrate.Permanent(err) || strings.Contains(err.Error(), "boom") {
		t.Errorf("error %v", err)
	}
	if said := log.String(); !strings.Contains(said, "boom") || !strings.Contains(said, "panic_test.go") {
		t.Errorf("the log has no stack:\n%s", said)
	}
	if after := b.CDROM("guest1"); after != before {
		t.Errorf("the drive was %+v and is %+v", before, after)
	}
	b.clean()
	b.gone()
}

func TestAPanicOfTheRunItselfIsItsErrorToo(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, mib, extent{0, mib, false}))
	flawed := *b.m
	flawed.Endpoint = func(job.Definition) (vsphere.Config, error) { panic("boom") }
	_, err := flawed.Run(t.Context(), b.job(job.FormatRaw), progress.New())
	var p *panics.Error
	if !errors.As(err, &p) || !migrate.Permanent(err) || strings.Contains(err.Error(), "boom") {
		t.Errorf("error %v", err)
	}
}
