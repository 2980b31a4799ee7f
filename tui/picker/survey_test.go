package picker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/tui/picker"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func TestProblemsAreShownBeforeTheCursorHasBeenThere(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(200), picker.Options{})
	m.Update(picker.Surveyed{Problems: map[string]string{"vm-199": "vtpm", "vm-150": "rdm", "gone": "x"}})
	press(m, "home")
	typeText(m, "0199")
	wantShown(t, screen(t, m, 100, 30), "vtpm")
	press(m, "esc")
	for !strings.Contains(screen(t, m, 100, 30), "by problem") {
		press(m, "ctrl+s")
	}
	rows := listed(t, m, 100, 30)
	if rows[0] != "lab-ldap-0199" || rows[1] != "dev-erp-0150" || strings.Contains(rows[2], "01") {
		t.Errorf("sorted by problem the list begins with\n%s", strings.Join(rows[:3], "\n"))
	}
}

func TestProblemsThatComeWhileSortedByThemKeepTheCursorOnItsVM(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(20), picker.Options{})
	for !strings.Contains(screen(t, m, 100, 30), "by problem") {
		press(m, "ctrl+s")
	}
	press(m, "down", "down", "down")
	before := chosen(t, m)[0].Name
	m.Update(picker.Surveyed{Problems: map[string]string{"vm-19": "vtpm", "vm-18": "rdm"}})
	if after := chosen(t, m)[0].Name; after != before {
		t.Errorf("the cursor went from %s to %s", before, after)
	}
	if rows := listed(t, m, 100, 30); !strings.HasSuffix(rows[0], "0019") {
		t.Errorf("the list was not sorted anew:\n%s", strings.Join(rows, "\n"))
	}
}

func TestWhatACloserLookHasFoundIsNotReplacedByTheSurvey(t *testing.T) {
	t.Parallel()
	vms := inventory(1)
	m := picker.New(vms, picker.Options{})
	m.Update(picker.Inspected{Ref: vms[0].Ref, VM: vms[0], Obstacles: []vsphere.Obstacle{{Code: "missing-privilege", Severity: vsphere.SeverityError}}})
	m.Update(picker.Surveyed{Problems: map[string]string{vms[0].Ref: "rdm"}})
	wantShown(t, screen(t, m, 100, 30), "missing-pr")
}

func TestASurveyThatFailsIsTold(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(3), picker.Options{})
	m.Update(picker.Surveyed{Err: errors.New("no permission\x1b[2J")})
	wantShown(t, screen(t, m, 120, 30), `no permission\x1b[2J`)
}

func TestASelectionIsNotGivenUpWithoutAQuestion(t *testing.T) {
	t.Parallel()
	m := picker.New(inventory(30), picker.Options{})
	press(m, "tab", "tab")
	if cmd := press(m, "esc"); cmd != nil {
		t.Fatal("esc left with a selection")
	}
	wantShown(t, screen(t, m, 100, 30), "forget the 2 selected?", "● 2 selected")
	if cmd := press(m, "n"); cmd != nil {
		t.Fatal("no was taken for yes")
	}
	wantShown(t, screen(t, m, 100, 30), "● 2 selected", "30 of 30")
	press(m, "esc")
	if _, ok := press(m, "y")().(picker.Left); !ok {
		t.Error("yes did not leave")
	}
}
