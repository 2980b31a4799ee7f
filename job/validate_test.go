package job_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// contractJob is the job of the public contract.
func contractJob() job.Definition {
	return job.Definition{
		Name:       "example-vm-export",
		VMPath:     "/data/vm/XX-win2019-x86_64 - Clone",
		OutputPath: "/tmp/export-test-vm",
		Options:    job.Options{ParallelDownloads: 4, RemoveCDROM: true},
	}
}

func valid(change func(*job.Definition)) job.Definition {
	d := contractJob()
	d.VCenter = "lab"
	if change != nil {
		change(&d)
	}
	return d.WithDefaults()
}

func own(change func(*job.Definition)) job.Definition {
	return valid(func(d *job.Definition) {
		d.VCenter = ""
		d.VCenterURL = "https://vc.example/sdk"
		d.Username = "operator"
		d.Password = "hunter2hunter2"
		if change != nil {
			change(d)
		}
	})
}

func TestDefinitionsThatCanWorkAreValid(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]job.Definition{
		"the contract's job":         contractJob().WithDefaults(),
		"with a named vCenter":       valid(nil),
		"with a vCenter of its own":  own(nil),
		"with an insecure vCenter":   own(func(d *job.Definition) { d.Insecure = true }),
		"with a SHA-1 thumbprint":    own(func(d *job.Definition) { d.Thumbprint = strings.Repeat("AB:", 19) + "ab" }),
		"with a SHA-256 thumbprint":  own(func(d *job.Definition) { d.Thumbprint = strings.Repeat("0f", 32) }),
		"with only path and output":  job.Definition{VMPath: "vm", OutputPath: "/o"}.WithDefaults(),
		"with a trailing slash":      valid(func(d *job.Definition) { d.OutputPath = "/tmp/out/" }),
		"with every kind of letters": valid(func(d *job.Definition) { d.VMPath = `/dc/vm/Ünïcode "quoted" %2f 虚拟机` }),
		"with insecure alone":        valid(func(d *job.Definition) { d.VCenter, d.Insecure = "", true }),
		"with insecure beside name":  valid(func(d *job.Definition) { d.Insecure = true }),
		"with credentials only":      valid(func(d *job.Definition) { d.VCenter, d.Username, d.Password = "", "u", "p" }),
	} {
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEachProblemOfADefinitionIsNamed(t *testing.T) {
	t.Parallel()
	for field, d := range map[string]job.Definition{
		"id":                         valid(func(d *job.Definition) { d.ID = "../a" }),
		"name":                       valid(func(d *job.Definition) { d.Name = "a\x1b[2J" }),
		"vm_path":                    valid(func(d *job.Definition) { d.VMPath = " " }),
		"output_path":                valid(func(d *job.Definition) { d.OutputPath = "relative" }),
		"options.parallel_downloads": valid(func(d *job.Definition) { d.Options.ParallelDownloads = 65 }),
		"options.retries":            valid(func(d *job.Definition) { d.Options.Retries = -1 }),
		"options.format":             valid(func(d *job.Definition) { d.Options.Format = "vhd" }),
		"options.verify":             valid(func(d *job.Definition) { d.Options.Verify = "no" }),
		"options.transport":          valid(func(d *job.Definition) { d.Options.Transport = job.TransportDatastore }), // with format ovf
		"options.limit":              valid(func(d *job.Definition) { d.Options.Limit = "fast" }),
		"options.compress":           valid(func(d *job.Definition) { d.Options.Compress = true }),
		"options.virtio":             valid(func(d *job.Definition) { d.Options.Virtio = true }),
		"options.keep_ip":            valid(func(d *job.Definition) { d.Options.KeepIP = true }),
		"options.for":                valid(func(d *job.Definition) { d.Options.For = "proxmox" }), // with format ovf
		"priority":                   valid(func(d *job.Definition) { d.Priority = 101 }),
		"vcenter_url":                own(func(d *job.Definition) { d.VCenterURL = "http://vc.example/sdk" }),
		"thumbprint":                 own(func(d *job.Definition) { d.Thumbprint = "12:34" }),
		"username":                   own(func(d *job.Definition) { d.Username, d.Password = "", "" }),
	} {
		problems := problemsOf(t, d)
		if len(problems) != 1 || problems[0].Field != field {
			t.Errorf("%s: problems = %v", field, problems)
		}
	}
	for _, p := range []string{"/", "/a/../b", "/a//b", "/a/./b"} {
		if got := problemsOf(t, valid(func(d *job.Definition) { d.OutputPath = p })); len(got) != 1 || got[0].Field != "output_path" {
			t.Errorf("output_path %s: problems = %v", p, got)
		}
	}
	for _, u := range []string{"https://", "vc.example", "ftp://vc", "https://vc/sdk?password=x", "https://o:p@vc/sdk", "https://o:%zz@vc", "https://" + strings.Repeat("a.", 150) + "vc/sdk"} {
		if got := problemsOf(t, own(func(d *job.Definition) { d.VCenterURL = u })); len(got) != 1 || got[0].Field != "vcenter_url" {
			t.Errorf("vcenter_url %s: problems = %v", u, got)
		}
	}
}

func TestAnIDIsNoWordOfTheAPIsPaths(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"submit", "query", "check", "cancel", "events", "retry", "limit"} {
		if got := problemsOf(t, valid(func(d *job.Definition) { d.ID = id })); len(got) != 1 || got[0].Field != "id" {
			t.Errorf("id %s: problems = %v", id, got)
		}
	}
	if err := valid(func(d *job.Definition) { d.ID = "query-1" }).Validate(); err != nil {
		t.Errorf("an id that only begins so: %v", err)
	}
}

func problemsOf(t *testing.T, d job.Definition) []job.Problem {
	t.Helper()
	var v *job.ValidationError
	if err := d.Validate(); err != nil && !errors.As(err, &v) {
		t.Fatalf("error is %T", err)
	}
	if v == nil {
		return nil
	}
	return v.Problems
}

func TestAllProblemsAreToldAndNoValue(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	d := job.Definition{
		ID: secret + "/", Name: secret + "\n", VMPath: secret + "\x00", OutputPath: secret, VCenter: "lab",
		VCenterURL: secret, Username: secret, Password: secret, Insecure: true, Thumbprint: secret, Priority: 1000,
		Options: job.Options{ParallelDownloads: 100, Format: secret, Verify: secret, Retries: 100},
	}.WithDefaults()
	err := d.Validate()
	if err == nil {
		t.Fatal("it was found valid")
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error quotes a value: %v", err)
	}
	var fields []string
	for _, p := range problemsOf(t, d) {
		fields = append(fields, p.Field)
	}
	want := []string{
		"id", "name", "vm_path", "output_path", "options.parallel_downloads", "options.retries", "options.format",
		"options.verify", "vcenter_url", "username", "password", "thumbprint", "priority",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestDefaultsFillInWhatWasLeftOut(t *testing.T) {
	t.Parallel()
	got := job.Definition{
		VMPath:     "/dc/vm/folder/db%2fmain",
		OutputPath: "/out/",
		VCenterURL: "https://operator:hunter2@vc.example:8443/sdk",
	}.WithDefaults()
	want := job.Definition{
		Name: "db/main", VMPath: "/dc/vm/folder/db%2fmain", OutputPath: "/out",
		VCenterURL: "https://vc.example:8443/sdk", Username: "operator", Password: "hunter2",
		Options: job.Options{ParallelDownloads: 4, Format: job.FormatOVF},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if key := got.VCenterKey(); key != "vc.example:8443" {
		t.Errorf("VCenterKey = %q", key)
	}
	if data, err := json.Marshal(got.Redacted()); err != nil || strings.Contains(string(data), "hunter2") {
		t.Errorf("redacted: %s, %v", data, err)
	}
}

func TestTargetsAreNamedInAnyOrderAndSpelling(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"": "", "proxmox": "proxmox", " KubeVirt , proxmox,proxmox,": "proxmox kubevirt", "incus,libvirt,openstack": "libvirt openstack incus",
	} {
		if got, err := job.ParseTargets(given); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q is %q, %v; want %q", given, got, err, want)
		}
	}
	for _, given := range []string{"vmware", "proxmox;kubevirt", ",", " "} {
		if got, err := job.ParseTargets(given); err == nil && given != " " {
			t.Errorf("%q is %q, want an error", given, got)
		}
	}
}
