package vmsearch_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/vmsearch"
)

var vms = []vmsearch.VM{
	{Name: "prod-web-10", Path: "/dc/vm/prod/prod-web-10", Guest: "Debian 12", Host: "esx1", Power: "poweredOn", Firmware: "efi"},
	{Name: "prod-db", Path: "/dc/vm/prod/prod-db", Host: "esx2", Datastores: []string{"ssd 1", "tape"}, Power: "poweredOff", Connection: "connected"},
	{Name: "Prod-web-9", Path: "/dc/vm/prod/Prod-web-9", Power: "suspended", Snapshots: 2, Connection: "disconnected"},
	{Name: "golden", Path: "/dc/vm/prod/golden", Template: true, Firmware: "bios", Power: "poweredOff"},
}

func TestVMsAreFoundByWhatIsKnownOfThemNamesFirst(t *testing.T) {
	t.Parallel()
	find := vmsearch.New(vms).Finder()
	for query, want := range map[string]string{
		"web":                 "Prod-web-9 prod-web-10",
		"prdb":                "prod-db",
		"esx2":                "prod-db",
		"tape":                "prod-db",
		"debian":              "prod-web-10",
		"is:on":               "prod-web-10",
		"stopped":             "prod-db golden",
		"is:off web":          "",
		"is:snapshot":         "Prod-web-9",
		"is:down":             "Prod-web-9",
		"is:template":         "golden",
		"is:efi":              "prod-web-10",
		"/dc/vm/prod/prod-db": "prod-db",
	} {
		var names []string
		for _, i := range find.Find(query) {
			names = append(names, vms[i].Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q finds %q, want %q", query, got, want)
		}
	}
}

func TestVMsStandInTheNaturalOrderOfTheirNamesThenFolders(t *testing.T) {
	t.Parallel()
	type place struct{ name, path string }
	want := []place{{"web-9", "/dc/vm/a/web-9"}, {"Web-9", "/dc/vm/b2/Web-9"}, {"web-9", "/dc/vm/b10/web-9"}, {"web-10", "/dc/vm/a/web-10"}}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, func(a, b place) int { return vmsearch.KeyOf(a.name, a.path).Compare(vmsearch.KeyOf(b.name, b.path)) })
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if a, b := vmsearch.KeyOf("z", "/dc/vm/a/z"), vmsearch.KeyOf("a", "/dc/vm/b/a"); a.CompareFolders(b) >= 0 {
		t.Error("folders are not compared by themselves")
	}
}
