package job_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestANetworkMapIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]string{
		"":                                    {},
		"VM Network=default,DMZ=br-dmz":       {"VM Network": "default", "DMZ": "br-dmz"},
		" VM Network = default , DMZ=br-dmz,": {"VM Network": "default", "DMZ": "br-dmz"},
		"DMZ=bridge:br0":                      {"DMZ": "bridge:br0"},
		`a\,b=x,c\=d=y,e\\=z`:                 {"a,b": "x", "c=d": "y", `e\`: "z"},
		"DMZ=x,DMZ=x":                         {"DMZ": "x"},
		"Zürich 🚀=netz":                       {"Zürich 🚀": "netz"},
	} {
		got, err := job.ParseNetworkMap(text)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
		again, err := job.ParseNetworkMap(job.FormatNetworkMap(got))
		if err != nil || !maps.Equal(again, got) {
			t.Errorf("%q is written as %q: %v, %v", got, job.FormatNetworkMap(got), again, err)
		}
	}
}

func TestAnEntryOfANetworkMapThatMakesNoSenseIsNamed(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		"DMZ": `"DMZ"`, "A=x,DMZ": `"DMZ"`, "=x": `"=x"`, "DMZ=": `"DMZ="`, "A=x=y": `"A=x=y"`,
		"DMZ=x,DMZ=y": `"DMZ=y"`, ",": "no entry", " ": "no entry",
	} {
		if got, err := job.ParseNetworkMap(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestValidationNamesTheEntryOfTheNetworkMapAndNotItsValue(t *testing.T) {
	t.Parallel()
	good := map[string]string{"VM Network": "default", "DMZ": "bridge:br-dmz", "Zürich": "netz 1", "a/b": "x"}
	valid := job.Definition{VMPath: "vm", OutputPath: "/out", Options: job.Options{Format: job.FormatQcow2, NetworkMap: good}}
	if err := valid.WithDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", " ", "s3cret/x", "s3cret\n", " s3cret", "bridge:", "bridge: s3cret", "bridge:s3cret-and-too-long", "bridge:s3 cret", "s3cret\xff", strings.Repeat("s3cret", 50),
	} {
		d := valid
		d.Options.NetworkMap = map[string]string{"DMZ": bad, "VM Network": "default"}
		err := d.WithDefaults().Validate()
		if err == nil || !strings.Contains(err.Error(), `options.network_map["DMZ"]`) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "VM Network") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for name, change := range map[string]func(o *job.Options){
		"an OVF":                    func(o *job.Options) { o.Format = job.FormatOVF },
		"a nameless port group":     func(o *job.Options) { o.NetworkMap = map[string]string{" ": "x"} },
		"a port group's characters": func(o *job.Options) { o.NetworkMap = map[string]string{"a\x1b[2J": "x"} },
	} {
		d := valid
		change(&d.Options)
		if err := d.WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "options.network_map") || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%s: %v", name, err)
		}
	}
}
