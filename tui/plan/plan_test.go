package plan_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func vm(path, power string, size int64) vsphere.VM {
	return vsphere.VM{Ref: path, Path: path, Name: path[strings.LastIndexByte(path, '/')+1:], Power: power, CommittedBytes: size}
}

var choices = plan.Choices{Output: "/srv/vms", Options: job.Options{Format: job.FormatQcow2, Snapshot: true, ParallelDownloads: 8}}

func TestOneVMGoesToTheDirectoryAndSeveralBelowIt(t *testing.T) {
	t.Parallel()
	outputs := func(vms ...vsphere.VM) []string {
		var out []string
		for _, s := range plan.Jobs(vms, choices) {
			out = append(out, s.Def.OutputPath)
		}
		return out
	}
	if diff := cmp.Diff([]string{"/srv/vms"}, outputs(vm("/DC0/vm/web", vsphere.PoweredOff, 1))); diff != "" {
		t.Error(diff)
	}
	got := outputs(vm("/DC0/vm/a/web", vsphere.PoweredOff, 1), vm("/DC0/vm/b/web", vsphere.PoweredOff, 1),
		vm("/DC0/vm/b/WEB", vsphere.PoweredOff, 1), vm("/DC0/vm/x%2fy", vsphere.PoweredOff, 1))
	want := []string{"/srv/vms/web", "/srv/vms/web-2", "/srv/vms/WEB-3", "/srv/vms/x_y"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyVMsThatAreNotOffTakeASnapshot(t *testing.T) {
	t.Parallel()
	specs := plan.Jobs([]vsphere.VM{vm("/v/off", vsphere.PoweredOff, 1), vm("/v/on", vsphere.PoweredOn, 1)}, choices)
	if specs[0].Def.Options.Snapshot || !specs[1].Def.Options.Snapshot {
		t.Errorf("snapshots: %t, %t", specs[0].Def.Options.Snapshot, specs[1].Def.Options.Snapshot)
	}
}

func TestTheCommandMeansTheJob(t *testing.T) {
	t.Parallel()
	spec := plan.Jobs([]vsphere.VM{vm("/DC0/vm/it's a $(VM)", vsphere.PoweredOn, 1)}, choices)[0]
	got := plan.Command(spec.Def, "AA:BB")
	want := `hyper2kvm export -vm '/DC0/vm/it'\''s a $(VM)' -output /srv/vms -format qcow2 -parallel 8 -snapshot -thumbprint AA:BB`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTheCommandHasEveryOptionThatHasAFlag(t *testing.T) {
	t.Parallel()
	def := job.Definition{VMPath: "web", OutputPath: "/srv/web", Options: job.Options{
		Format: job.FormatQcow2, ParallelDownloads: 2, Snapshot: true, Shutdown: true, PowerOff: true, RemoveCDROM: true, Virtio: true, Convert: true,
		KeepIP: true, Compress: true, Overwrite: true, Finish: "tag,rename", ShutdownTimeout: "9m", Transport: job.TransportAuto, Verify: job.VerifyFull,
		NetworkMap: map[string]string{"VM Network": "default"}, For: "proxmox", Limit: "9MB/s",
		Landing: job.Landing{Libvirt: "qemu:///system", Pool: "my pool", Define: true, Start: true, OnCollision: job.CollisionSuffix},
	}}
	const want = "hyper2kvm export -vm web -output /srv/web -format qcow2 -parallel 2 -snapshot -shutdown -power-off -remove-cdrom -virtio -convert -keep-ip -compress" +
		" -overwrite -define -start -finish tag,rename -shutdown-timeout 9m -transport auto -verify full -network-map 'VM Network=default' -for proxmox -limit 9MB/s" +
		" -libvirt qemu:///system -pool 'my pool' -on-collision suffix -thumbprint AA:BB"
	if got := plan.Command(def, "AA:BB"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	steps := strings.Join(plan.Steps([]vsphere.VM{vm("web", vsphere.PoweredOn, 1)}, plan.Choices{Options: def.Options}), "\n")
	for _, part := range []string{"is shut down first", "virt-v2v", "addresses", "kit for proxmox", "pool my pool", "started", "marked: tag,rename"} {
		if !strings.Contains(steps, part) {
			t.Errorf("no %q in\n%s", part, steps)
		}
	}
}

func TestTheWayToReadDisksIsInTheCommandWhenItIsNotTheUsualOne(t *testing.T) {
	t.Parallel()
	for way, flag := range map[job.Transport]bool{"": false, job.TransportNFC: false, job.TransportAuto: true, job.TransportDatastore: true} {
		c := choices
		c.Options.Transport = way
		vms := []vsphere.VM{vm("/DC0/vm/web", vsphere.PoweredOff, 1)}
		command := plan.Command(plan.Jobs(vms, c)[0].Def, "")
		if strings.Contains(command, "-transport "+string(way)) != flag {
			t.Errorf("%q: %s", way, command)
		}
		steps := strings.Join(plan.Steps(vms, c), "\n")
		if strings.Contains(steps, "no checksum") != flag {
			t.Errorf("%q: %s", way, steps)
		}
	}
}

func TestQuotedTextIsOneWordToTheShell(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain", "a b", "it's", "$HOME", "`id`", "-x", "日本", "a\nb", `back\slash`, "'", "*"} {
		out, err := exec.Command("sh", "-c", "printf %s. "+outcome.Quote(s)).Output()
		if err != nil || string(out) != s+"." {
			t.Errorf("%q came back as %q, %v", s, out, err)
		}
	}
}

func TestTheJobFileIsReadBackAsTheJobs(t *testing.T) {
	t.Parallel()
	for _, vms := range [][]vsphere.VM{
		{vm("/DC0/vm/web: #1", vsphere.PoweredOn, 1)},
		{vm("/DC0/vm/a/web", vsphere.PoweredOff, 1), vm("/DC0/vm/b/web", vsphere.PoweredOn, 1)},
	} {
		specs := plan.Jobs(vms, choices)
		specs[0].Def.Password = "hunter2"
		text, err := plan.JobFile(specs)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "hunter2") {
			t.Error("the job file holds the password")
		}
		batch, err := jobfile.Decode(strings.NewReader(text), "application/yaml")
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		specs[0].Def.Password = ""
		var want []job.Definition
		for _, s := range specs {
			want = append(want, s.Def)
		}
		if diff := cmp.Diff(want, batch.Jobs); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSpaceThatCannotDoIsRefused(t *testing.T) {
	t.Parallel()
	disks := func(thin bool) []vsphere.VM {
		a, b := vm("/v/a", vsphere.PoweredOff, 30<<30), vm("/v/b", vsphere.PoweredOff, 12<<30)
		a.Disks, b.Disks = []vsphere.Disk{{Capacity: 30 << 30, Thin: thin}}, []vsphere.Disk{{Capacity: 12 << 30, Thin: thin}}
		return []vsphere.VM{a, b}
	}
	compressed, ovf := choices, choices
	compressed.Options.Compress, ovf.Options.Format = true, job.FormatOVF
	cases := []struct {
		why          string
		vms          []vsphere.VM
		c            plan.Choices
		free         int64
		refuse, warn bool
	}{
		{"enough", disks(true), choices, 42 << 30, false, false},
		{"too little", disks(true), choices, 42<<30 - 1, true, false},
		{"too little, thick", disks(false), choices, 1 << 30, false, true},
		{"too little, disks not known", []vsphere.VM{vm("/v/a", vsphere.PoweredOff, 2<<30)}, choices, 1 << 30, false, true},
		{"too little, compressed", disks(true), compressed, 1 << 30, false, true},
		{"too little, ovf", disks(true), ovf, 1 << 30, false, true},
		{"nobody knows", disks(true), choices, -1, false, false},
	}
	for _, c := range cases {
		refuse, warn := plan.CheckSpace(c.vms, c.c, c.free)
		if (refuse != "") != c.refuse || (warn != "") != c.warn {
			t.Errorf("%s: refused %q, warned %q", c.why, refuse, warn)
		}
	}
}

func TestChoicesThatCannotWorkAreNamed(t *testing.T) {
	t.Parallel()
	c := choices
	c.Output, c.Options.ParallelDownloads, c.Options.Format, c.Options.Compress = "relative", 99, job.FormatRaw, true
	err := c.Validate()
	if err == nil {
		t.Fatal("they were accepted")
	}
	for _, part := range []string{"output directory must be absolute", "parallel downloads must be from 1 to 64", "compress needs format qcow2"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if err := choices.Validate(); err != nil {
		t.Error(err)
	}
}

func TestStepsSayWhatHappensToRunningVMs(t *testing.T) {
	t.Parallel()
	vms := []vsphere.VM{vm("/v/a", vsphere.PoweredOn, 1), vm("/v/b", vsphere.PoweredOn, 1)}
	if text := strings.Join(plan.Steps(vms, choices), "\n"); !strings.Contains(text, "2 running VMs are exported from a temporary snapshot") || strings.Contains(text, "cannot be powered on") {
		t.Error(text)
	}
	c := choices
	c.Options.Snapshot = false
	if text := strings.Join(plan.Steps(vms[:1], c), "\n"); !strings.Contains(text, "1 running VM is refused") {
		t.Error(text)
	}
}

func TestWordsOfACommandStayWhole(t *testing.T) {
	t.Parallel()
	command := "export -vm " + outcome.Quote("/it's a VM") + " -output " + outcome.Quote("") + " x"
	want := []string{"export", "-vm", `'/it'\''s a VM'`, "-output", "''", "x"}
	if diff := cmp.Diff(want, plan.Words(command)); diff != "" {
		t.Error(diff)
	}
}
