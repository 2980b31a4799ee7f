package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestCheckAndExportAgreeOnSpace(t *testing.T) {
	t.Parallel()
	raw := sparse(t, 8<<20, 0, 2<<20, 4<<20, 6<<20)
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "erp", Disks: []vspheretest.Disk{{Path: raw}}}}})
	env := map[string]string{}
	for _, line := range lab.Env() {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
	for _, flags := range [][]string{{"-format", "raw"}, {"-format", "qcow2"}, {"-format", "qcow2", "-compress"}, {"-format", "ovf"}} {
		out := filepath.Join(volumetest.Tiny(t, 2<<20), "out")
		codes := map[string]int{}
		var told strings.Builder
		for _, command := range []string{"check", "export"} {
			args := append([]string{"hyper2kvm", command, "-vm", "erp", "-output", out}, flags...)
			codes[command] = run(t.Context(), args, &told, &told, func(k string) string { return env[k] })
		}
		// What is compressed may fit, and is tried.
		if fits := codes["check"] == 0; fits != (codes["export"] != exitObstacle) {
			t.Errorf("%q: exit codes %v\n%s", flags, codes, &told)
		}
	}
}
