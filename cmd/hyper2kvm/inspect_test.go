//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// answers has guestfish answer as a file of package inspect's testdata says.
func answers(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	a, err := txtar.ParseFile(filepath.Join("../../inspect/testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{"answers": a.Files[0].Data, "vmlinuz": nil} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for program, script := range map[string]string{
		"supermin": "", "qemu-system-x86_64": "",
		"guestfish": `while IFS= read -r line; do
	case $line in
	"!echo "*) echo "${line#!echo }" ;;
	-*) want="> ${line#-}" awk '/^> / { on = $0 == ENVIRON["want"]; next } on' "` + dir + `/answers" ;;
	esac
done
`,
	} {
		processtest.Script(t, filepath.Join(dir, program), script)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("SUPERMIN_KERNEL", filepath.Join(dir, "vmlinuz"))
}

func TestCheckLooksIntoTheDisksAndSaysWhatAConversionWouldFailBy(t *testing.T) {
	answers(t, "little-room")
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "erp", Disks: []vspheretest.Disk{{Path: sparse(t, 2<<20, 0)}}}, {Name: "web", PoweredOn: true, Disks: []vspheretest.Disk{{Path: sparse(t, 2<<20, 0)}}},
	}})
	check := func(args ...string) (code int, out, errOut string) {
		return hyper2kvm(t, lab, append([]string{"check", "-inspect"}, args...)...)
	}

	code, out, errOut := check("-vm", "erp")
	if code != 0 || errOut != "" {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	for _, want := range []string{
		"INFO Debian GNU/Linux 12 (bookworm) on /dev/sda1 (debian 12.5 x86_64)\n",
		"INFO   / on /dev/sda1 (ext4): 20.0 MiB of 5.0 GiB free\n",
		"INFO   boot loader grub2\n", "INFO   network settings of ifupdown\n",
		"of 2.0 MiB were read, from its datastore, in ",
		"WARNING / of /dev/sda1 (ext4) has 20.0 MiB free, and a conversion takes 100.0 MiB (make room in the guest)\n",
		"SUCCESS /DC0/vm/erp can be exported\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}

	code, out, errOut = check("-vm", "erp", "-json")
	var told struct {
		Exportable bool
		Inside     struct {
			Systems []struct{ Distro string }
			Read    []string `json:"read_from"`
		}
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 || errOut != "" || !told.Exportable || len(told.Inside.Systems) != 1 || told.Inside.Systems[0].Distro != "debian" || len(told.Inside.Read) != 1 {
		t.Errorf("%v, exit code %d\n%s%s", err, code, out, errOut)
	}

	code, out, errOut = check("-vm", "web", "-snapshot")
	if code != exitFailed || !strings.Contains(errOut, "the disks were not looked into: the VM is poweredOn") || !strings.Contains(errOut, "hint: add -transport auto") || !strings.Contains(out, "can be exported") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	code, _, errOut = check("-vm", "web")
	if code != exitObstacle || !strings.Contains(errOut, "ERROR hint: look into it while it is off") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	for _, args := range [][]string{{"-all"}, {"-vm", "erp", "-vm", "web"}, {"-vm", "erp", "-report", "x.csv"}} {
		if code, _, errOut = check(args...); code != exitUsage || !strings.Contains(errOut, "one VM") {
			t.Errorf("%v: exit code %d: %s", args, code, errOut)
		}
	}
	if lab.Sessions() > 0 {
		t.Error("a session is left")
	}
}
