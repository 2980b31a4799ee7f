package picker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/picker"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// inventory makes n VMs of four stages and five applications.
func inventory(n int) []vsphere.VM {
	vms := make([]vsphere.VM, n)
	for i := range vms {
		stage := []string{"prod", "test", "dev", "lab"}[i%4]
		name := fmt.Sprintf("%s-%s-%04d", stage, []string{"erp", "web", "db", "mail", "ldap"}[i%5], i)
		vms[i] = vsphere.VM{
			Ref: fmt.Sprintf("vm-%d", i), Name: name, Path: "/DC0/vm/" + stage + "/" + name,
			Power:         []string{vsphere.PoweredOff, vsphere.PoweredOn, vsphere.Suspended}[i%3],
			GuestFullName: []string{"Debian GNU/Linux 12 (64-bit)", "Microsoft Windows Server 2019 (64-bit)"}[i%2],
			HostName:      fmt.Sprintf("esx-%02d.example.com", i%40), Datastores: []string{fmt.Sprintf("ds-%d", i%7)},
			CPUs: 2, MemoryMiB: 4096, Firmware: vsphere.BIOS, DiskCount: 1 + i%3, CommittedBytes: int64(i%97+1) << 30,
			ConnectionState: "connected",
		}
	}
	return vms
}

// key is the message of a key by its name, as "x", "ctrl+a", "down".
func key(name string) tea.KeyPressMsg {
	codes := map[string]rune{
		"enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "space": tea.KeySpace, "backspace": tea.KeyBackspace,
		"up": tea.KeyUp, "down": tea.KeyDown, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd, "f1": tea.KeyF1,
	}
	if name == "space" || name == " " {
		return tea.KeyPressMsg{Code: tea.KeySpace, Text: " "}
	}
	if code, ok := codes[name]; ok {
		return tea.KeyPressMsg{Code: code}
	}
	if letter, ok := strings.CutPrefix(name, "ctrl+"); ok {
		return tea.KeyPressMsg{Code: rune(letter[0]), Mod: tea.ModCtrl}
	}
	return tea.KeyPressMsg{Code: []rune(name)[0], Text: name}
}

// press sends keys and returns the last command.
func press(m *picker.Model, names ...string) tea.Cmd {
	var cmd tea.Cmd
	for _, name := range names {
		cmd = m.Update(key(name))
	}
	return cmd
}

func typeText(m *picker.Model, text string) {
	for _, r := range text {
		press(m, string(r))
	}
}

// screen is what is shown, without styles; it fails the test when a line does
// not fit.
func screen(t *testing.T, m *picker.Model, width, height int) string {
	t.Helper()
	text := ansi.Strip(m.View().Content)
	lines := strings.Split(text, "\n")
	if len(lines) > height {
		t.Errorf("%d lines on a screen of %d:\n%s", len(lines), height, text)
	}
	for _, line := range lines {
		if cell.Width(line) > width {
			t.Fatalf("a line of %d cells on a screen of %d: %q", cell.Width(line), width, line)
		}
	}
	return text
}

// wantShown fails unless every part is on the screen.
func wantShown(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the screen lacks %q:\n%s", part, text)
		}
	}
}

func names(vms []vsphere.VM) []string {
	var out []string
	for _, vm := range vms {
		out = append(out, vm.Name)
	}
	return out
}

func TestWordsInAnyOrderLeaveOneOfFiveThousand(t *testing.T) {
	t.Parallel()
	vms := inventory(5000)
	for _, query := range []string{"prod erp 0120", "0120 erp prod"} {
		m := picker.New(vms, picker.Options{Title: "vc.example.com"})
		typeText(m, query)
		wantShown(t, screen(t, m, 80, 24), "1 of 5,000", "prod-erp-0120")
		chosen, ok := press(m, "enter")().(picker.Chosen)
		if !ok || !slices.Equal(names(chosen.VMs), []string{"prod-erp-0120"}) {
			t.Errorf("%q and enter chose %v", query, names(chosen.VMs))
		}
	}
}

func TestABurstOfAHundredKeysIsAllInTheSearch(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(10_000), picker.Options{})
	m.Update(tea.WindowSizeMsg{Width: 200, Height: 24})
	burst := strings.Repeat("prod erp 42", 10)[:100]
	typeText(m, burst)
	wantShown(t, screen(t, m, 200, 24), "Search: "+burst)
	for range 100 {
		press(m, "backspace")
	}
	wantShown(t, screen(t, m, 200, 24), "10,000 of 10,000")
}

func TestResizingToFiftyByTwelveAndBackShowsTheSame(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(300), picker.Options{Title: "vc.example.com"})
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
	press(m, "pgdown", "pgdown", "tab", "down")
	before := screen(t, m, 80, 24)
	m.Update(tea.WindowSizeMsg{Width: 50, Height: 12})
	small := screen(t, m, 50, 12)
	wantShown(t, small, "❯", "NAME", "POWER", "SIZE", "tab select")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
	after := screen(t, m, 80, 24)
	cursorLine := func(s string) string {
		_, rest, _ := strings.Cut(s, "❯")
		line, _, _ := strings.Cut(rest, "\n")
		return line
	}
	if cursorLine(before) != cursorLine(after) || cursorLine(before) == "" {
		t.Errorf("the cursor was on %q and is on %q", cursorLine(before), cursorLine(after))
	}
}

func TestEverySizeFits(t *testing.T) {
	t.Parallel()
	vms := append(inventory(40), vsphere.VM{Ref: "x", Name: "日本語サーバー%2f1", Path: "/DC0/vm/日本語サーバー%2f1", GuestFullName: "ゲスト\x1b[2J"})
	for width := 1; width < 180; width += 23 {
		for height := 1; height < 40; height += 9 {
			m := picker.New(vms, picker.Options{Inspect: func(vsphere.VM) tea.Cmd { return nil }})
			m.Update(tea.WindowSizeMsg{Width: width, Height: height})
			screen(t, m, width, height)
			press(m, "end", "ctrl+d")
			screen(t, m, width, height)
			press(m, "f1")
			screen(t, m, width, height)
		}
	}
}

// chosen is what enter goes on with: the marked VMs.
func chosen(t *testing.T, m *picker.Model) []vsphere.VM {
	t.Helper()
	c, ok := press(m, "enter")().(picker.Chosen)
	if !ok {
		t.Fatal("enter did not go on")
	}
	return c.VMs
}

func TestSelectAllSelectsWhatMatchesAndNothingElse(t *testing.T) {
	t.Parallel()
	vms := inventory(400)
	m := picker.New(vms, picker.Options{})
	typeText(m, "prod web")
	press(m, "ctrl+a", "esc") // esc clears the search and keeps the selection
	wantShown(t, screen(t, m, 80, 24), "● 20 selected", "400 of 400")
	for _, vm := range chosen(t, m) {
		if !strings.HasPrefix(vm.Name, "prod-web-") {
			t.Errorf("%s was selected", vm.Name)
		}
	}
	press(m, "ctrl+t")
	if n := len(chosen(t, m)); n != 380 {
		t.Errorf("inverted, %d are selected, want 380", n)
	}
	press(m, "ctrl+x")
	if text := screen(t, m, 80, 24); strings.Contains(text, "selected") {
		t.Errorf("none asked for, and some are selected:\n%s", text)
	}
}

func TestSpaceMarksWhereItCannotBelongToTheSearch(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(20), picker.Options{})
	press(m, "space")
	if got := names(chosen(t, m)); !slices.Equal(got, []string{"dev-db-0002"}) {
		t.Errorf("with an empty search, space selected %q", got)
	}
	press(m, "ctrl+x")
	typeText(m, "web prod")
	wantShown(t, screen(t, m, 80, 24), "Search: web prod")
	press(m, "home", "space")
	wantShown(t, screen(t, m, 80, 24), "● 1 selected")
	if got := names(chosen(t, m)); len(got) != 1 || !strings.HasPrefix(got[0], "prod-web") {
		t.Errorf("after a cursor key, space selected %q", got)
	}
}

func TestSelectionsOfSeveralSearchesAddUp(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(20), picker.Options{})
	typeText(m, "0003")
	press(m, "tab", "ctrl+u")
	typeText(m, "0001")
	chosen := press(m, "tab", "ctrl+u", "enter")().(picker.Chosen)
	if got := names(chosen.VMs); !slices.Equal(got, []string{"lab-mail-0003", "test-web-0001"}) {
		t.Errorf("chose %q", got)
	}
}

func TestSortingCyclesThroughColumns(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(200), picker.Options{})
	first := func() string {
		_, rest, _ := strings.Cut(screen(t, m, 80, 24), "❯")
		return strings.Fields(rest)[0]
	}
	press(m, "ctrl+s")
	wantShown(t, screen(t, m, 80, 24), "by name")
	if got := first(); got != "dev-db-0002" {
		t.Errorf("by name, %s is first", got)
	}
	press(m, "ctrl+s")
	if got := first(); got != "prod-erp-0096"[:4]+"-web-0096" && !strings.HasSuffix(got, "-0096") && !strings.HasSuffix(got, "-0193") {
		t.Errorf("by size, %s is first", got)
	}
	press(m, "ctrl+r")
	wantShown(t, screen(t, m, 80, 24), "by size ↑")
	if got := first(); !strings.HasSuffix(got, "-0000") && !strings.HasSuffix(got, "-0097") && !strings.HasSuffix(got, "-0194") {
		t.Errorf("by size backwards, %s is first", got)
	}
}

// listed are the names that the screen lists, from the top.
func listed(t *testing.T, m *picker.Model, width, height int) []string {
	t.Helper()
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	lines := strings.Split(screen(t, m, width, height), "\n")
	var out []string
	for _, line := range lines[3 : len(lines)-1] {
		if fields := strings.Fields(strings.Trim(line, " ❯●")); len(fields) > 0 {
			out = append(out, fields[0])
		}
	}
	return out
}

// called makes VMs of these names.
func called(names ...string) []vsphere.VM {
	vms := make([]vsphere.VM, len(names))
	for i, name := range names {
		vms[i] = vsphere.VM{Ref: fmt.Sprint("vm-", i), Name: name, Path: "/DC0/vm/" + name, Power: vsphere.PoweredOff, GuestFullName: "Debian GNU/Linux 12 (64-bit)"}
	}
	return vms
}

func TestWithoutASearchVMsStandInTheNaturalOrderOfTheirNames(t *testing.T) {
	t.Parallel()
	m := picker.New(called("bulk-00040", "bulk-00000", "web10", "Web9", "bulk-00020", "Zürich", "zoo", "Ägypten"), picker.Options{})
	want := []string{"Ägypten", "bulk-00000", "bulk-00020", "bulk-00040", "Web9", "web10", "zoo", "Zürich"}
	if got := listed(t, m, 80, 24); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	wantShown(t, screen(t, m, 80, 24), "by name")
	typeText(m, "zurich")
	if got := listed(t, m, 80, 24); !slices.Equal(got, []string{"Zürich"}) {
		t.Errorf("zurich lists %q", got)
	}
	wantShown(t, screen(t, m, 80, 24), "by best match")
}

func TestADatabaseIsFoundBeforeLettersOfOtherNames(t *testing.T) {
	t.Parallel()
	vms := called("Domain-Backup", "dev-build", "devbox", "dmz-b", "prod-web-1")
	for i := range 8 {
		vms = append(vms, called(fmt.Sprintf("prod-db-%02d", 8-i))[0])
		vms[len(vms)-1].Ref = fmt.Sprint("db-", i)
	}
	m := picker.New(vms, picker.Options{})
	typeText(m, "db")
	for i, name := range listed(t, m, 80, 24)[:8] {
		if want := fmt.Sprintf("prod-db-%02d", i+1); name != want {
			t.Errorf("row %d is %s, want %s", i, name, want)
		}
	}
	typeText(m, " | web-1$")
	wantShown(t, screen(t, m, 80, 24), "prod-db-03", "prod-web-1")
}

func TestNamesAreWholeWhereThereIsRoomAndKeepBothEndsWhereThereIsNone(t *testing.T) {
	t.Parallel()
	const long = "prod-frankfurt-erp-application-server-0132-clone"
	vms := called(long, "short", strings.Replace(long, "0132", "0133", 1))
	for _, c := range []struct {
		width int
		parts []string
	}{
		{50, []string{"prod-frankfurt…ver-0132-clone ", "prod-frankfurt…ver-0133-clone "}},
		{64, []string{"prod-fran", "32-clone ", "33-clone ", "PROBLEM"}},
		{80, []string{"prod-frankfurt-erp-a…", "rver-0132-clone ", "rver-0133-clone ", "PROBLEM"}},
		{120, []string{long + " ", "Debian GNU", "GUEST", "PROBLEM"}},
	} {
		m := picker.New(vms, picker.Options{})
		m.Update(tea.WindowSizeMsg{Width: c.width, Height: 12})
		wantShown(t, screen(t, m, c.width, 12), append(c.parts, "short ")...)
	}
	m := picker.New(vms, picker.Options{})
	m.Update(tea.WindowSizeMsg{Width: 50, Height: 12})
	typeText(m, "prod clone")
	line, _, _ := strings.Cut(strings.SplitN(m.View().Content, "❯", 2)[1], "\n")
	for _, part := range []string{"33mprod", "33mclone"} {
		if !strings.Contains(line, part) {
			t.Errorf("what was found is not marked in a name that is cut: %q lacks %q", line, part)
		}
	}
}

func TestShortNamesLeaveTheirRoomToOtherColumns(t *testing.T) {
	t.Parallel()
	m := picker.New(called("db", "web"), picker.Options{})
	wantShown(t, screen(t, m, 80, 24), "Debian GNU/Linux 12 (64-bit)", "PROBLEM")
}

func TestSortedByFolderTheFolderIsShown(t *testing.T) {
	t.Parallel()
	vms := called("a", "b", strings.Repeat("long-name-", 5))
	vms[0].Path, vms[1].Path = "/DC0/vm/team-10/a", "/DC0/vm/team-9/b"
	m := picker.New(vms, picker.Options{})
	for range 6 {
		press(m, "ctrl+s")
	}
	wantShown(t, screen(t, m, 80, 24), "by folder", "FOLDER", "team-9", "team-10")
	if got := listed(t, m, 80, 24); !slices.Equal(got[1:], []string{"b", "a"}) {
		t.Errorf("by folder: %q", got)
	}
}

func TestSelectedVMsCanBeSearchedFor(t *testing.T) {
	t.Parallel()
	m := picker.New(called("db-1", "db-2", "web-1", "web-2"), picker.Options{})
	press(m, "tab", "down", "tab") // db-1 and web-1
	typeText(m, "is:selected")
	if got := listed(t, m, 80, 24); !slices.Equal(got, []string{"db-1", "web-1"}) {
		t.Errorf("is:selected lists %q", got)
	}
	press(m, "tab") // no more
	if got := listed(t, m, 80, 24); !slices.Equal(got, []string{"web-1"}) {
		t.Errorf("with db-1 unmarked, is:selected lists %q", got)
	}
	press(m, "ctrl+u")
	typeText(m, "!is:selected db")
	if got := listed(t, m, 80, 24); !slices.Equal(got, []string{"db-1", "db-2"}) {
		t.Errorf("!is:selected db lists %q", got)
	}
	press(m, "ctrl+a")
	wantShown(t, screen(t, m, 80, 24), "no VM matches", "● 3 selected")
	press(m, "ctrl+x")
	wantShown(t, screen(t, m, 80, 24), "2 of 4")
}

func TestDetailsThatAreTooLongForTheirPaneGoOnInTheNextLine(t *testing.T) {
	t.Parallel()
	vm := called("vm")[0]
	vm.Path = "/DC0/vm/Production/Frankfurt/Enterprise Resource Planning/vm"
	vm.Annotation = "owner: the team of many words; to be moved before the end of the quarter"
	m := picker.New([]vsphere.VM{vm}, picker.Options{Inspect: func(vsphere.VM) tea.Cmd { return nil }})
	typeText(m, "resource")
	for width, parts := range map[int][]string{
		120: {"Resource", "Planning/vm", "end of the quarter", "stands in the way of every"},
		50:  {"Resource", "Planning/vm"},
	} {
		m.Update(picker.Inspected{Ref: vm.Ref, VM: vm, Obstacles: []vsphere.Obstacle{{Text: "something with a rather long explanation stands in the way of every export"}}})
		m.Update(tea.WindowSizeMsg{Width: width, Height: 40})
		text := screen(t, m, width, 40)
		_, text, _ = strings.Cut(text, "──")
		flat := strings.Join(strings.Fields(strings.ReplaceAll(text, "│", " ")), " ")
		wantShown(t, flat, parts...)
		if !strings.Contains(m.View().Content, "33mResource") {
			t.Errorf("at %d columns the details do not mark what was found", width)
		}
	}
}

func TestNothingThatMatchesIsSaidAndNotChosen(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(5), picker.Options{})
	typeText(m, "zzz")
	wantShown(t, screen(t, m, 80, 24), "no VM matches")
	if cmd := press(m, "enter"); cmd != nil {
		t.Errorf("enter sent %v", cmd())
	}
	wantShown(t, screen(t, m, 80, 24), "nothing matches")
}

func TestDetailsComeForTheVMOnWhichTheCursorRests(t *testing.T) {
	t.Parallel()
	var asked []string
	vms := inventory(30)
	m := picker.New(vms, picker.Options{Rest: time.Nanosecond, Inspect: func(vm vsphere.VM) tea.Cmd {
		asked = append(asked, vm.Name)
		vm.Disks = []vsphere.Disk{{Label: "Hard disk 1", Capacity: 40 << 30, Controller: vsphere.PVSCSI, Datastore: "ds-1", File: "x/x.vmdk"}}
		vm.NICs = []vsphere.NIC{{Type: "vmxnet3", MAC: "00:50:56:00:00:01", Network: "VM Network", Connected: true}}
		return func() tea.Msg {
			return picker.Inspected{Ref: vm.Ref, VM: vm, Obstacles: []vsphere.Obstacle{
				{Code: vsphere.CodeImage, Severity: vsphere.SeverityWarning, Text: "CD/DVD drive 1 holds the image x.iso"},
				{Code: vsphere.CodeVTPM, Severity: vsphere.SeverityError, Text: "the VM has a virtual TPM"},
			}}
		}
	}})
	early := press(m, "down")()
	rest := press(m, "down")()
	if cmd := m.Update(early); cmd != nil {
		t.Error("a VM that the cursor has left was inspected")
	}
	inspect := m.Update(rest)
	wantShown(t, screen(t, m, 80, 24), "looking closer")
	m.Update(inspect())
	if !slices.Equal(asked, []string{vms[10].Name}) { // the third by name
		t.Errorf("inspected %q", asked)
	}
	wantShown(t, screen(t, m, 80, 24), "the VM has a virtual TPM", "40.0 GiB  scsi-pvscsi 0:0", "more lines")
	m.Update(tea.WindowSizeMsg{Width: 190, Height: 30})
	wantShown(t, screen(t, m, 190, 30), "00:50:56:00:00:01", "│", "FOLDER")
	_, list, _ := strings.Cut(screen(t, m, 190, 30), "❯")
	line, _, _ := strings.Cut(list, "\n")
	if !strings.Contains(line, "vtpm") {
		t.Errorf("the list does not show the problem: %q", line)
	}
	if cmd := press(m, "up", "down"); cmd != nil {
		t.Error("a VM that is known was inspected again")
	}
}

func TestAFailedInspectionIsTold(t *testing.T) {
	t.Parallel()
	vms := inventory(3)
	m := picker.New(vms, picker.Options{Inspect: func(vsphere.VM) tea.Cmd { return nil }})
	m.Update(picker.Inspected{Ref: vms[2].Ref, Err: errors.New("connection lost\x1b[2J")})
	wantShown(t, screen(t, m, 80, 24), `details: connection lost\x1b[2J`)
}

func TestVMsOfOneNameAreToldApart(t *testing.T) {
	t.Parallel()
	vms := []vsphere.VM{
		{Ref: "vm-1", Name: "web", Path: "/DC0/vm/Team A/web"},
		{Ref: "vm-2", Name: "web", Path: "/DC0/vm/Team B/web"},
		{Ref: "vm-3", Name: "db", Path: "/DC0/vm/Team B/db"},
	}
	m := picker.New(vms, picker.Options{})
	wantShown(t, screen(t, m, 80, 24), "Team A", "Team B")
	typeText(m, "web")
	wantShown(t, screen(t, m, 80, 24), "2 of 3")
}

func TestNamesCannotTakeOverTheTerminal(t *testing.T) {
	t.Parallel()
	evil := "\x1b]0;owned\a\x1b[2Jvm\r\nSUCCESS"
	m := picker.New([]vsphere.VM{{Ref: "1", Name: evil, Path: "/" + evil, GuestFullName: evil, HostName: evil, Annotation: evil, Datastores: []string{evil}}},
		picker.Options{Title: evil, Inspect: func(vsphere.VM) tea.Cmd { return nil }})
	m.Update(tea.PasteMsg{Content: evil})
	m.Update(key("ctrl+u"))
	content := m.View().Content
	for _, bad := range []string{"\x1b]", "\x1b[2J", "\a", "\r"} {
		if strings.Contains(content, bad) {
			t.Errorf("%q reaches the terminal", bad)
		}
	}
	if n := strings.Count(content, "\n"); n != 23 {
		t.Errorf("the screen has %d lines", n+1)
	}
}

func TestGoingBackTakesTwoStepsWhileSearching(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(3), picker.Options{})
	typeText(m, "x")
	if cmd := press(m, "esc"); cmd != nil {
		t.Error("the first esc did more than clear the search")
	}
	if _, ok := press(m, "esc")().(picker.Left); !ok {
		t.Error("the second esc did not go back")
	}
}

func TestPastedTextIsSearchedFor(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(40), picker.Options{})
	m.Update(tea.PasteMsg{Content: "prod-erp-0020\nsecond line"})
	wantShown(t, screen(t, m, 80, 24), "Search: prod-erp-0020", "1 of 40")
	press(m, "ctrl+u")
	m.Update(tea.PasteMsg{Content: "/DC0/vm/prod/prod-erp-0020"})
	wantShown(t, screen(t, m, 80, 24), "1 of 40")
}
