package migrate_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// privilegeCase is an export that needs a privilege.
type privilegeCase struct {
	privilege string
	vm        vspheretest.VM
	options   job.Options
	spared    bool // done without, and said
}

func privilegeCases() []privilegeCase {
	iso := []byte("image")
	running := vspheretest.VM{PoweredOn: true}
	drive := vspheretest.VM{ISO: iso}
	runningDrive := vspheretest.VM{ISO: iso, PoweredOn: true}
	snapshot := job.Options{Snapshot: true}
	noDrive := job.Options{RemoveCDROM: true}
	both := job.Options{RemoveCDROM: true, Snapshot: true}
	datastore := job.Options{Transport: job.TransportDatastore}
	auto := job.Options{Transport: job.TransportAuto}
	return []privilegeCase{
		{"VApp.Export", vspheretest.VM{}, job.Options{}, false},
		{"VApp.Export", running, snapshot, false},
		{"VirtualMachine.Interact.PowerOff", vspheretest.VM{PoweredOn: true, Guest: tools()}, job.Options{Shutdown: true}, false},
		{"VirtualMachine.Interact.PowerOff", running, job.Options{PowerOff: true}, false},
		{"VirtualMachine.Interact.PowerOn", running, job.Options{PowerOff: true}, false},
		{"Global.ManageCustomFields", vspheretest.VM{}, job.Options{Finish: "tag"}, false},
		{"Global.SetCustomField", vspheretest.VM{}, job.Options{Finish: "tag"}, false},
		{"VirtualMachine.Config.Rename", vspheretest.VM{}, job.Options{Finish: "rename"}, false},
		{"VirtualMachine.Config.EditDevice", vspheretest.VM{NICs: []vspheretest.NIC{{}}}, job.Options{Finish: "disconnect"}, false},
		{"VirtualMachine.Interact.DeviceConnection", vspheretest.VM{NICs: []vspheretest.NIC{{}}}, job.Options{Finish: "disconnect"}, false},
		{"VirtualMachine.State.CreateSnapshot", running, snapshot, false},
		{"VirtualMachine.State.RemoveSnapshot", running, snapshot, false},
		{"VirtualMachine.Config.AddRemoveDevice", drive, noDrive, false},
		{"VirtualMachine.Interact.SetCDMedia", drive, noDrive, false},
		{"VirtualMachine.Interact.SetCDMedia", runningDrive, both, false},
		{"VirtualMachine.Interact.DeviceConnection", runningDrive, both, false},
		{"VirtualMachine.Config.EditDevice", runningDrive, both, false},
		{"Datastore.Browse", drive, noDrive, false},
		{"Datastore.Browse", vspheretest.VM{}, datastore, false},
		{"Datastore.Browse", vspheretest.VM{}, auto, true},
		{"Datastore.FileManagement", vspheretest.VM{}, datastore, false},
		{"Datastore.FileManagement", vspheretest.VM{}, auto, true},
		{"VirtualMachine.Provisioning.DiskRandomRead", vspheretest.VM{CBT: true}, datastore, true},
		{"VirtualMachine.Provisioning.DiskRandomRead", vspheretest.VM{CBT: true}, auto, true},
		{"VirtualMachine.Provisioning.GetVmFiles", vspheretest.VM{}, job.Options{Transport: job.TransportNFC902}, true},
	}
}

// denying is a lab without the privilege, and the job that needs it.
func (c privilegeCase) denying(t *testing.T, faults ...string) (*bench, job.Definition) {
	t.Helper()
	vm := c.vm
	vm.Name = "guest1"
	b := newFlatBench(t, vspheretest.Config{
		VMs: []vspheretest.VM{vm}, DeniedPrivileges: []string{c.privilege}, Faults: faults,
		NFC902: c.options.Transport == job.TransportNFC902,
	}, rawDisk(t, 2*mib, extent{0, mib, true}))
	def := b.job(job.FormatRaw)
	format := def.Options.Format
	def.Options = c.options
	def.Options.Format = format
	return b, def
}

func (c privilegeCase) name() string {
	name := c.privilege
	if c.vm.PoweredOn {
		name += " running"
	}
	if c.options.Finish != "" {
		name += " " + c.options.Finish
	}
	if c.options.Shutdown {
		name += " shut down"
	}
	if c.options.Transport != "" {
		name += " " + string(c.options.Transport)
	}
	return name
}

func TestCheckNamesEveryMissingPrivilegeAndTheExportFailsWithItsName(t *testing.T) {
	t.Parallel()
	for _, c := range privilegeCases() {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			b, def := c.denying(t)
			_, obstacles, err := b.m.Check(t.Context(), def)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(obstacles, func(o vsphere.Obstacle) bool {
				return o.Code == vsphere.CodePrivilege && strings.Contains(o.Text, "the privilege "+c.privilege+" on the ")
			})
			if i < 0 || (obstacles[i].Severity == vsphere.SeverityWarning) != c.spared {
				t.Fatalf("check says %+v", obstacles)
			}
			if strings.HasPrefix(c.privilege, "Datastore.") && !strings.Contains(obstacles[i].Text, "LocalDS_0") {
				t.Errorf("which datastore? %s", obstacles[i].Text)
			}
			result, _, err := b.run(context.Background(), def)
			if c.spared {
				if err != nil || !strings.Contains(strings.Join(result.Notes, "\n"), c.privilege) {
					t.Errorf("export: %v, notes %q", err, result.Notes)
				}
				return
			}
			var preflight *migrate.PreflightError
			if !errors.As(err, &preflight) || !strings.Contains(err.Error(), c.privilege) {
				t.Errorf("export: %v", err)
			}
		})
	}
}

// Where vSphere does not tell which privileges there are, its refusal does.
func TestAPrivilegeThatCannotBeCheckedIsNamedByTheCallThatNeedsIt(t *testing.T) {
	t.Parallel()
	for _, c := range privilegeCases() {
		onlyToUndo := c.privilege == "VirtualMachine.State.RemoveSnapshot" || c.privilege == "VirtualMachine.Interact.PowerOn" ||
			c.privilege == "Datastore.Browse" && c.options.RemoveCDROM ||
			c.privilege == "VirtualMachine.Interact.SetCDMedia" && !c.vm.PoweredOn
		if onlyToUndo {
			continue // the export gets along without, and tells what it owes
		}
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			b, def := c.denying(t, "fault:call=HasPrivilegeOnEntities,fault=NotSupported,times=always")
			_, tracker, err := b.run(context.Background(), def)
			said := ""
			if err != nil {
				said = err.Error() + migrate.Hint(err)
			}
			said += events(tracker)
			if (err == nil) != c.spared || !strings.Contains(said, c.privilege) {
				t.Errorf("export: %v; said: %s", err, said)
			}
		})
	}
}

func TestEveryPrivilegeOfTheDocumentIsDeniedInATest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/vsphere-permissions.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.Contains(cells[2], "`") {
			continue
		}
		rows++
		id := strings.Trim(strings.TrimSpace(cells[2]), "`")
		if !slices.ContainsFunc(privilegeCases(), func(c privilegeCase) bool { return c.privilege == id }) {
			t.Errorf("no test denies %s", id)
		}
	}
	if rows < 10 {
		t.Errorf("the document lists %d privileges", rows)
	}
}
