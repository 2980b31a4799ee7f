package job_test

import (
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestALibvirtOfAnotherMachineIsRefusedByName(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"qemu:///system": "", "qemu:///session": "", "test:///default": "",
		"qemu+unix:///system": "", "qemu+unix:///session?socket=/run/user/7/libvirt/libvirt-sock": "", "test+unix:///default?socket=/x": "",
		"qemu+ssh://root@host/system":        "another machine",
		"qemu://host/system":                 "another machine",
		"qemu+tcp:///system":                 "tcp",
		"qemu+tls:///system":                 "tls",
		"xen:///system":                      "xen",
		"esx://host/":                        "esx",
		"lxc:///":                            "lxc",
		"qemu:///embed?root=/tmp/x":          "path",
		"qemu:///":                           "path",
		"qemu:///system?socket=/x":           "qemu+unix",
		"qemu+unix:///system?socket=x":       "absolute",
		"qemu+unix:///system?socket=/a/../b": "clean",
		"qemu+unix:///system?mode=legacy":    "parameters",
		"test:///etc/passwd":                 "path",
		"/run/libvirt/libvirt-sock":          "driver",
		"":                                   "driver",
		"qemu://%zz":                         "URI",
	} {
		err := job.CheckLibvirt(uri)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want one about %q", uri, err, want)
		}
	}
}

func TestWhatIsToBeLandedIsValidated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		format job.Format
		l      job.Landing
		field  string // with the problem; "" is none
	}{
		"into a pool":                {job.FormatQcow2, job.Landing{Libvirt: "qemu:///system", Pool: "default"}, ""},
		"defined where it is":        {job.FormatRaw, job.Landing{Libvirt: "qemu:///system", Define: true}, ""},
		"started, with a suffix":     {job.FormatRaw, job.Landing{Libvirt: "qemu:///system", Pool: "p", Start: true, OnCollision: job.CollisionSuffix}, ""},
		"nothing to do":              {job.FormatRaw, job.Landing{Libvirt: "qemu:///system"}, "options.libvirt"},
		"an OVF":                     {job.FormatOVF, job.Landing{Libvirt: "qemu:///system", Pool: "p"}, "options.libvirt"},
		"no libvirt, but a pool":     {job.FormatRaw, job.Landing{Pool: "p"}, "options.libvirt"},
		"no libvirt, but start":      {job.FormatRaw, job.Landing{Start: true}, "options.libvirt"},
		"another machine's":          {job.FormatRaw, job.Landing{Libvirt: "qemu+ssh://h/system", Pool: "p"}, "options.libvirt"},
		"a pool that is a path":      {job.FormatRaw, job.Landing{Libvirt: "qemu:///system", Pool: "/p"}, "options.pool"},
		"a collision that is unkown": {job.FormatRaw, job.Landing{Libvirt: "qemu:///system", Pool: "p", OnCollision: "overwrite"}, "options.on_collision"},
	} {
		err := valid(func(d *job.Definition) { d.Options.Format, d.Options.Landing = c.format, c.l }).Validate()
		if c.field == "" && err != nil || c.field != "" && (err == nil || !strings.HasPrefix(err.Error(), c.field+": ") || strings.Contains(err.Error(), ";")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStarInANetworkMapIsForWhatItDoesNotName(t *testing.T) {
	t.Parallel()
	o := job.Options{NetworkMap: map[string]string{"VM Network": "lan", job.AnyNetwork: "bridge:br0"}}
	for group, want := range map[string]string{"VM Network": "lan", "Other": "bridge:br0", "": "bridge:br0"} {
		if got, mapped := o.Network(group); got != want || !mapped {
			t.Errorf("%q is on %q, %t", group, got, mapped)
		}
	}
	if _, mapped := (job.Options{NetworkMap: map[string]string{"A": "b"}}).Network("B"); mapped {
		t.Error("a port group without a network has one")
	}
}
