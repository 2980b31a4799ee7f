package migrate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestTheDomainOfAVMTakesCPUsAndMemoryWhileItRunsIfTheVMDid(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		vm     vspheretest.VM
		vcpu   string
		memory string
	}{
		"neither":                 {vm: vspheretest.VM{}, vcpu: `<vcpu placement="static">4</vcpu>`},
		"CPUs":                    {vm: vspheretest.VM{CPUHotAdd: true}, vcpu: `<vcpu placement="static" current="4">16</vcpu>`},
		"both":                    {vm: vspheretest.VM{CPUHotAdd: true, MemoryHotAdd: true}, vcpu: `<vcpu placement="static" current="4">16</vcpu>`, memory: `<maxMemory unit="MiB" slots="16">4096</maxMemory>`},
		"memory of one that runs": {vm: vspheretest.VM{MemoryHotAdd: true, PoweredOn: true}, vcpu: `<vcpu placement="static">4</vcpu>`, memory: `<maxMemory unit="MiB" slots="16">4096</maxMemory>`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm := test.vm
			vm.Name, vm.CPUs, vm.CoresPerSocket, vm.MemoryMiB, vm.GuestID = "guest1", 4, 2, 1024, "debian12_64Guest"
			b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{vm}}, rawDisk(t, 1<<20))
			def := b.job(job.FormatRaw)
			def.Options.Snapshot = vm.PoweredOn
			b.export(def)
			xml, err := os.ReadFile(filepath.Join(b.out, "guest1.xml"))
			if err != nil {
				t.Fatal(err)
			}
			if text := string(xml); !strings.Contains(text, test.vcpu) || strings.Contains(text, "<maxMemory") != (test.memory != "") || !strings.Contains(text, test.memory) {
				t.Errorf("the domain is\n%s", text)
			}
		})
	}
}
