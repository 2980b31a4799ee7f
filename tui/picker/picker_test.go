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
	if got := names(chosen(t, m)); !slices.Equal(got, []string{"prod-erp-0000"}) {
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
	if got := names(chosen.VMs); !slices.Equal(got, []string{"test-web-0001", "lab-mail-0003"}) {
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
	if !slices.Equal(asked, []string{vms[2].Name}) {
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
	m.Update(picker.Inspected{Ref: vms[0].Ref, Err: errors.New("connection lost\x1b[2J")})
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
}
