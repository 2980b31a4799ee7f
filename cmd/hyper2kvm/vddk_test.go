package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestAVDDKThatIsNotThereIsAnObstacleThatSaysWhereToGetIt(t *testing.T) {
	t.Parallel()
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "erp", Disks: []vspheretest.Disk{{Path: sparse(t, 1<<20, 0)}}}}})
	env := map[string]string{}
	for _, line := range lab.Env() {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "-vddk-libdir DIR"},
		{[]string{"-vddk-libdir", t.TempDir()}, "vmware-vix-disklib-distrib"},
	} {
		for _, command := range []string{"check", "export"} {
			var told strings.Builder
			out := filepath.Join(t.TempDir(), "out")
			args := append([]string{"hyper2kvm", command, "-vm", "erp", "-output", out, "-format", "qcow2", "-transport", "vddk"}, c.flags...)
			code := run(t.Context(), args, &told, &told, func(k string) string { return env[k] })
			if code != exitObstacle || !strings.Contains(told.String(), c.want) {
				t.Errorf("%s %q: exit code %d\n%s", command, c.flags, code, &told)
			}
		}
	}
}
