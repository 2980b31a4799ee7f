package migrate_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestAnExportLandsAtLibvirtAlsoWhenItWasFinishedBefore(t *testing.T) {
	t.Parallel()
	lv := libvirttest.Start(t)
	pool := t.TempDir()
	lv.Pool("images", pool)
	lv.Network("lan")
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", NICs: []vspheretest.NIC{{Network: "Prod"}, {Network: "Test"}}}}}, twoDisks(t)...)
	b.m.AcceptFinished = true
	plain := b.job(job.FormatQcow2)
	plain.Options.NetworkMap = map[string]string{"Prod": "lan"}

	def := plain
	def.Options.Landing = job.Landing{Libvirt: lv.URI(), Pool: "none", Define: true}
	_, _, err := b.run(t.Context(), def)
	var refused *migrate.PreflightError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), `no storage pool "none"`) || !strings.Contains(err.Error(), "port groups Test") || strings.Contains(err.Error(), "Prod") {
		t.Errorf("the preflight says %v", err)
	}
	if _, obstacles, err := b.m.Check(t.Context(), def); err != nil || len(obstacles) < 2 {
		t.Errorf("the check says %v, %v", obstacles, err)
	}
	if n := b.BytesServed("guest1", 0); n > 0 {
		t.Errorf("%d bytes were fetched", n)
	}

	plain.Options.NetworkMap[job.AnyNetwork] = "lan"
	b.export(plain)
	served := b.BytesServed("guest1", 0)
	def.Options.Pool = "images"
	first := b.export(def)
	again := b.export(def)
	if n := b.BytesServed("guest1", 0) - served; n > 0 {
		t.Errorf("%d bytes were fetched again", n)
	}
	if first.Landed == nil || again.Landed == nil || first.Landed.UUID != again.Landed.UUID || len(first.Landed.Images) != 2 {
		t.Fatalf("landed %+v, and then %+v", first.Landed, again.Landed)
	}
	for i, path := range first.Landed.Images {
		if filepath.Dir(path) != pool {
			t.Errorf("disk %d is at %s", i, path)
		}
		qemuImg(t, "compare", "-U", "-f", "raw", "-F", "qcow2", b.raw[i], path)
	}
	b.identical(first) // the export is as it was
	xml := lv.Virsh("dumpxml", "--inactive", "guest1")
	if strings.Count(xml, "<source network='lan'/>") != 2 || !strings.Contains(xml, first.Landed.Images[1]) {
		t.Errorf("the domain is\n%s", xml)
	}
	if h := b.hidden(); len(h) > 0 {
		t.Errorf("the work directory has %q", h)
	}
}
