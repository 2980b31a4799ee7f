package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// rooted starts a daemon whose jobs may write below out, and to no vCenter but the
// configured one, and makes a directory beside out that is nobody's business.
func rooted(t *testing.T, lab *vspheretest.Server) (h *home, d *process, outside string) {
	t.Helper()
	h = newHome(t, lab)
	outside = filepath.Join(h.dir, "outside")
	if err := errors.Join(os.Mkdir(h.out(""), 0o700), os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write("config.yaml", "allowed_output_roots: ["+h.out("")+"]\nallowed_vcenters: [vcenter.example.com]\n"+string(config))
	return h, h.start(), outside
}

// untouched checks that outside holds what it held.
func untouched(t *testing.T, outside string) {
	t.Helper()
	if got := left(t, outside); !slices.Equal(got, []string{filepath.Join(outside, "secret")}) {
		t.Errorf("outside of the output roots there is %v", got)
	}
}

func TestNoPathLeadsAJobOutOfItsOutputRootsAndNoAnswerTellsWhatIsThere(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest"}}})
	h, d, outside := rooted(t, lab)
	for name, target := range map[string]string{"absolute": outside, "relative": "../outside", "nothing": "../none", "etc": "/etc"} {
		if err := os.Symlink(target, h.out(name)); err != nil {
			t.Fatal(err)
		}
	}
	said := map[string]bool{}
	for _, path := range []string{
		outside, outside + "/secret", outside + "/new", outside + "/none/new", "/etc", "/etc/passwd", "/etc/cron.d", "/root/.ssh", "/none", h.dir + "/state",
		h.dir + "/state/jobs.db", h.out("") + "x", h.out("absolute"), h.out("absolute") + "/new", h.out("relative") + "/new", h.out("relative") + "/secret",
		h.out("nothing"), h.out("nothing") + "/new", h.out("etc") + "/passwd",
	} {
		def := job.Definition{VCenter: "lab", VMPath: "guest", OutputPath: path}
		result, err := d.Submit(t.Context(), []job.Definition{def}, false)
		if err == nil || result.Accepted != 0 {
			t.Errorf("submit %s: %+v, %v", path, result, err)
		}
		for _, e := range result.Errors {
			said[e] = true
		}
		_, err = d.Check(t.Context(), def)
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Status != 422 {
			t.Errorf("check %s: %v", path, err)
			continue
		}
		said["jobs[0]: "+strings.TrimPrefix(refused.Text, "check: ")] = true
	}
	if len(said) != 1 {
		t.Errorf("one answer can be told from another: %v", said)
	}
	for text := range said {
		if !strings.Contains(text, h.out("")) {
			t.Errorf("the answer does not say where a job may write: %s", text)
		}
	}
	for _, path := range []string{"/../outside", "/a/../../outside", "/./x/../..", "/..", "/vms/../../../../etc"} {
		def := job.Definition{VCenter: "lab", VMPath: "guest", OutputPath: h.out("") + path}
		if result, err := d.Submit(t.Context(), []job.Definition{def}, false); err == nil {
			t.Errorf("submit %s: %+v", def.OutputPath, result)
		}
	}
	untouched(t, outside)
}

func TestACheckReachesNoAddressThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest"}}})
	h, d, _ := rooted(t, lab)
	addr, reached := silent(t)
	said := map[string]bool{}
	for _, u := range []string{"https://" + addr, "https://169.254.169.254/latest/meta-data", "https://[::1]:22", "https://localhost:1", "https://no.such.host.invalid", "https://10.255.255.1"} {
		def := job.Definition{VCenterURL: u, Username: "u", Password: "p", Insecure: true, VMPath: "guest", OutputPath: h.out("x")}
		_, err := d.Check(t.Context(), def)
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Status != 422 {
			t.Errorf("check %s: %v", u, err)
			continue
		}
		said[refused.Text] = true
		if result, err := d.Submit(t.Context(), []job.Definition{def}, false); err == nil || result.Accepted != 0 {
			t.Errorf("submit %s: %+v, %v", u, result, err)
		}
	}
	if len(said) != 1 {
		t.Errorf("one answer can be told from another: %v", said)
	}
	select {
	case <-reached:
		t.Error("an address was reached")
	default:
	}
}

func TestADirectoryThatIsSwappedUnderARunningJobLeadsItNowhere(t *testing.T) {
	t.Parallel()
	source := rawDisk(t, 8*mib, 4*mib, 9)
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest", Disks: []vspheretest.Disk{{Path: source}}}}})
	h, d, outside := rooted(t, lab)
	lab.OnByte("guest", 0, 1*mib, func() {
		if err := errors.Join(os.Rename(h.out("job"), h.out("moved")), os.Symlink(outside, h.out("job"))); err != nil {
			t.Error(err)
		}
	})
	def := job.Definition{ID: "guest", VCenter: "lab", VMPath: "guest", OutputPath: h.out("job"), Options: job.Options{Format: job.FormatQcow2}}
	if _, err := d.Submit(t.Context(), []job.Definition{def}, true); err != nil {
		t.Fatal(err)
	}
	d.awaitCompleted(t, 1)
	untouched(t, outside)
	if _, err := os.Stat(h.out("moved/guest-disk-0.qcow2")); err != nil {
		t.Errorf("what was begun did not go on where it was: %v", err)
	}
}

func TestNoNameOfAVMLeadsItsFilesOutOfTheOutputDirectory(t *testing.T) {
	t.Parallel()
	names := []string{
		"..", "../../evil", "/etc/passwd", `..\..\evil`, "a/../../b", "-rf", ".hidden", "CON", "NUL.txt", "trailing...", "trailing  ", "new\nline", "tab\tbed",
		"esc\x1b[2J", "evil\u202egpj", "%2e%2e%2fevil", "%00", "a:b*c?d|e<f>\"", strings.Repeat("long", 60), strings.Repeat("名", 80), "~root", "$HOME", "`id`", "名前 Büro",
	}
	source := rawDisk(t, 1*mib, 64<<10, 7)
	cfg := vspheretest.Config{}
	for _, name := range names {
		cfg.VMs = append(cfg.VMs, vspheretest.VM{Name: name, Disks: []vspheretest.Disk{{Path: source}}})
	}
	lab := startLab(t, cfg)
	h, d, outside := rooted(t, lab)
	page, err := d.VMs(t.Context(), "lab", 0, "")
	if err != nil || len(page.VMs) != len(names) {
		t.Fatalf("%d VMs, %v", len(page.VMs), err)
	}
	var defs []job.Definition
	for i, vm := range page.VMs {
		id := "vm" + string(rune('a'+i))
		defs = append(defs, job.Definition{ID: id, VCenter: "lab", VMPath: vm.UUID, OutputPath: h.out(id), Options: job.Options{Format: job.FormatRaw}})
	}
	if result, err := d.Submit(t.Context(), defs, true); err != nil {
		t.Fatalf("%+v, %v", result, err)
	}
	d.awaitCompleted(t, len(defs))
	untouched(t, outside)
	for i, def := range defs {
		j, err := d.Job(t.Context(), def.ID)
		if err != nil || j.Status != models.StatusCompleted {
			t.Errorf("%q: %s %s %v", page.VMs[i].Name, j.Status, j.Error, err)
			continue
		}
		identical(t, j, source)
		for _, file := range j.Result.Files {
			base := filepath.Base(file)
			if filepath.Dir(file) != def.OutputPath || len(base) > 255 || strings.ContainsAny(base, "/\\:*?\"<>|\x00\n\t\x1b\u202e%$`~") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "-") {
				t.Errorf("%q became %q", page.VMs[i].Name, file)
			}
		}
	}
	if got, err := os.ReadDir(h.dir); err != nil || len(got) != 5 { // config, password, out, outside, state
		t.Errorf("beside the output roots there is %v, %v", got, err)
	}
}
