package kvm_test

import (
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

func TestDomainNameKeepsWhatLibvirtTakes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"web-01":                   "web-01",
		"XX-win2019 - Clone":       "XX-win2019 - Clone",
		"größe 東京":                 "größe 東京",
		"a%2fb":                    "a-b",
		"100%25":                   "100%",
		`a%5Cb`:                    `a\b`,
		"a/b":                      "a-b",
		"  padded  ":               "padded",
		"a\nb\x00c":                "a-b-c",
		"bad\xffutf8":              "bad-utf8",
		"":                         "vm",
		" \t ":                     "vm",
		"..":                       "vm",
		"-force":                   "_force",
		strings.Repeat("東", 100):   strings.Repeat("東", 66),
		strings.Repeat("n", 10000): strings.Repeat("n", 200),
	} {
		if got := kvm.DomainName(name); got != want {
			t.Errorf("DomainName(%q) is %q, want %q", name, got, want)
		}
	}
}

func TestALongAnnotationIsCutAndNoted(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 100_000)
	text, notes := domain(t, kvm.Guest{Name: "a", MemoryMiB: 1, CPUs: 1, Description: long}, kvm.Options{})
	got := parse(t, text).Description
	if len(got) == 0 || len(got) > 64<<10 || !strings.HasPrefix(long, got) {
		t.Errorf("description has %d bytes", len(got))
	}
	if !mentions(notes, "description", "cut") {
		t.Errorf("notes are %v", notes)
	}
}

func TestLineBreaksOfAnAnnotationStay(t *testing.T) {
	t.Parallel()
	text, _ := domain(t, kvm.Guest{Name: "a", MemoryMiB: 1, CPUs: 1, Description: "one\r\ntwo\rthree\x00\tfour"}, kvm.Options{})
	if got := parse(t, text).Description; got != "one\ntwo\nthree\tfour" {
		t.Errorf("description is %q", got)
	}
}

func TestGuestIDsHaveALibosinfoID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"winXPPro64Guest":            "http://microsoft.com/win/xp",
		"winNetEnterprise64Guest":    "http://microsoft.com/win/2k3",
		"winLonghorn64Guest":         "http://microsoft.com/win/2k8",
		"windows7_64Guest":           "http://microsoft.com/win/7",
		"windows7Server64Guest":      "http://microsoft.com/win/2k8r2",
		"windows8Server64Guest":      "http://microsoft.com/win/2k12r2",
		"windows9_64Guest":           "http://microsoft.com/win/10",
		"windows9Server64Guest":      "http://microsoft.com/win/2k16",
		"windows2019srv_64Guest":     "http://microsoft.com/win/2k19",
		"windows2019srvNext_64Guest": "http://microsoft.com/win/2k22",
		"windows11_64Guest":          "http://microsoft.com/win/11",
		"debian4Guest":               "http://debian.org/debian/4",
		"debian12_64Guest":           "http://debian.org/debian/12",
		"rhel7_64Guest":              "http://redhat.com/rhel/7-unknown",
		"rhel9_64Guest":              "http://redhat.com/rhel/9-unknown",
		"centos7_64Guest":            "http://centos.org/centos/7.0",
		"oracleLinux8_64Guest":       "http://oracle.com/ol/8.5",
		"sles15_64Guest":             "http://suse.com/sle/15-unknown",
		"rockylinux_64Guest":         "http://rockylinux.org/rocky/unknown",
		"freebsd13_64Guest":          "http://freebsd.org/freebsd/13.1",
		"ubuntu64Guest":              "http://libosinfo.org/linux/2022",
		"ubuntuGuest":                "http://libosinfo.org/linux/2022",
		"vmwarePhoton64Guest":        "http://libosinfo.org/linux/2022",
		"other5xLinux64Guest":        "http://libosinfo.org/linux/2022",
		"otherGuest":                 "",
		"otherGuest64":               "",
		"darwin20_64Guest":           "",
		"":                           "",
	} {
		if got := kvm.OSInfo(id); got != want {
			t.Errorf("OSInfo(%q) is %q, want %q", id, got, want)
		}
	}
}

func TestWindowsGetsItsClockAndHyperVOnlyUnderKVM(t *testing.T) {
	t.Parallel()
	windows := kvm.Guest{Name: "w", MemoryMiB: 1, CPUs: 1, GuestID: "windows9_64Guest"}
	linux := windows
	linux.GuestID = "rhel9_64Guest"
	for _, test := range []struct {
		guest  kvm.Guest
		o      kvm.Options
		clock  string
		hyperv bool
	}{
		{windows, kvm.Options{}, "localtime", true},
		{windows, kvm.Options{Emulate: true}, "localtime", false},
		{linux, kvm.Options{}, "utc", false},
	} {
		text, _ := domain(t, test.guest, test.o)
		d := parse(t, text)
		if d.Clock.Offset != test.clock || (d.Features.HyperV != nil) != test.hyperv {
			t.Errorf("%s, %+v: clock %s, hyperv %v", test.guest.GuestID, test.o, d.Clock.Offset, d.Features.HyperV)
		}
	}
}
