package vspheretest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// createRole runs the script that administrators get, against the lab.
func createRole(t *testing.T, srv *vspheretest.Server, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../deploy/vsphere/create-role.sh", args...)
	cmd.Env = append(govc.Command(t, srv).Env, "PATH="+filepath.Dir(govc.Path(t))+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheScriptMakesTheRoleThatTheOptionsNeedAndGivesIt(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(*vspheretest.Config) {})
	system := []string{"System.Anonymous", "System.Read", "System.View"}
	export := append(system, "VApp.Export")
	snapshot := []string{"VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot"}
	datastore := []string{"Datastore.Browse", "Datastore.FileManagement", "VirtualMachine.Provisioning.DiskRandomRead"}
	cdrom := []string{
		"Datastore.Browse", "VirtualMachine.Config.AddRemoveDevice", "VirtualMachine.Config.EditDevice",
		"VirtualMachine.Interact.DeviceConnection", "VirtualMachine.Interact.SetCDMedia",
	}
	for _, step := range []struct {
		words []string
		want  [][]string
	}{
		{[]string{"snapshot", "datastore", "cdrom"}, [][]string{export, snapshot, datastore, cdrom}}, // made
		{[]string{"snapshot"}, [][]string{export, snapshot}},                                         // what is not asked for goes
		{nil, [][]string{export}},
		{[]string{"finish"}, [][]string{export, {"Global.ManageCustomFields", "Global.SetCustomField", "VirtualMachine.Config.EditDevice",
			"VirtualMachine.Config.Rename", "VirtualMachine.Interact.DeviceConnection"}}},
		{[]string{"power"}, [][]string{export, {"VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn"}}},
	} {
		if out, err := createRole(t, srv, append([]string{"-name", "export"}, step.words...)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := strings.Fields(run(t, srv, "role.ls", "export"))
		want := slices.Concat(step.want...)
		slices.Sort(got)
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("with %v the role has %v, want %v", step.words, got, want)
		}
	}
	if out, err := createRole(t, srv, "-name", "export", "-user", `LAB\svc`, "-on", "/DC0/vm", "-on", "/DC0/datastore/LocalDS_0"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, path := range []string{"/DC0/vm", "/DC0/datastore/LocalDS_0"} {
		if out := run(t, srv, "permissions.ls", "-a=false", path); !strings.Contains(out, `LAB\svc`) || !strings.Contains(out, "export") {
			t.Errorf("on %s: %s", path, out)
		}
	}
	for _, wrong := range [][]string{{"-on", "/DC0/vm"}, {"bogus"}, {"-name"}} {
		if out, err := createRole(t, srv, wrong...); err == nil {
			t.Errorf("%v: %s", wrong, out)
		}
	}
}
