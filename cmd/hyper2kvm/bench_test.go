package main

import (
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// BenchmarkReadinessBesideList runs list, and check -all in its formats, against
// 10,000 VMs. For each it reports the CPU time of the process, and the time that passes,
// which is for the most part that of the lab; x-list is the latter as a multiple of that
// of list.
func BenchmarkReadinessBesideList(b *testing.B) {
	program := program(b)
	lab := vspheretest.Start(b, vspheretest.Config{BulkVMs: 10_000})
	dir := b.TempDir()
	var list time.Duration
	for _, c := range []struct {
		name string
		args []string
	}{
		{"list", []string{"list"}},
		{"table", []string{"check", "-all"}},
		{"json", []string{"check", "-all", "-format", "json"}},
		{"csv", []string{"check", "-all", "-report", dir + "/r.csv"}},
		{"html", []string{"check", "-all", "-report", dir + "/r.html"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var cpu, passed time.Duration
			runs := 0
			for b.Loop() {
				cmd := command(program, lab, c.args...)
				cmd.Env = append(cmd.Env, "HOME="+dir)
				start := time.Now()
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				passed += time.Since(start)
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				runs++
			}
			passed /= time.Duration(runs)
			if c.name == "list" {
				list = passed
			}
			b.ReportMetric((cpu / time.Duration(runs)).Seconds(), "cpu-s")
			b.ReportMetric(passed.Seconds(), "s")
			b.ReportMetric(0, "ns/op")
			if list > 0 {
				b.ReportMetric(passed.Seconds()/list.Seconds(), "x-list")
			}
		})
	}
}
