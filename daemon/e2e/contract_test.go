package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// TestContract runs the scripts of testdata with the built programs. Each has a
// lab of its own with the VM "XX-win2019-x86_64 - Clone", that the environment
// names as govc reads it, and a daemon without a configuration file.
func TestContract(t *testing.T) {
	t.Parallel()
	source := rawDisk(t, 8*mib, 3*mib, 5)
	ctl := program(t, "h2kvmctl")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			t := e.T().(testing.TB)
			lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{
				Name: "XX-win2019-x86_64 - Clone", ISO: []byte("an image"), Disks: []vspheretest.Disk{{Path: source}},
			}}})
			h := newHome(t, lab)
			h.config = h.write("none.yaml", "{}\n")
			u := lab.URL()
			u.User = url.UserPassword("user", password) // GOVC_URL may hold it
			h.env = append(os.Environ(), "GOVC_URL="+u.String(), "GOVC_INSECURE=1", "GOVC_DATACENTER=DC0", "DOWNLOAD_WORKERS=2")
			d := h.start()
			e.Setenv("H2KVM_DAEMON", d.BaseURL())
			e.Setenv("PATH", filepath.Dir(ctl)+string(filepath.ListSeparator)+os.Getenv("PATH"))
			e.Setenv("VM", lab.InventoryPath("XX-win2019-x86_64 - Clone"))
			e.Setenv("TZ", "UTC")
			return jobFiles(e.WorkDir, lab.InventoryPath("XX-win2019-x86_64 - Clone"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"imaged": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(ts.Exec("qemu-img", "compare", "-f", "raw", "-F", "vmdk", source, ts.MkAbs(args[0])))
			},
		},
	})
}

// jobFiles writes what a script cannot hold itself, since output paths are
// absolute: the contract's job file as YAML, a batch, and a bare list as JSON.
func jobFiles(dir, vm string) error {
	j := func(out string) string {
		return fmt.Sprintf(`name: "example-vm-export"
vm_path: %q
output_path: %q
options:
  parallel_downloads: 4          # 1..64
  remove_cdrom: true
  show_individual_progress: false
`, vm, filepath.Join(dir, out))
	}
	list, err := json.Marshal([]job.Definition{{VMPath: vm, OutputPath: filepath.Join(dir, "listed")}})
	if err != nil {
		return err
	}
	python, err := json.Marshal(job.Definition{Name: "example-vm-export", VMPath: vm, OutputPath: filepath.Join(dir, "python")})
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"job.yaml":    j("job"),
		"batch.yaml":  "jobs:\n  - " + strings.ReplaceAll(strings.TrimSpace(j("batched")), "\n", "\n    ") + "\n",
		"list.json":   string(list),
		"python.json": string(python),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
