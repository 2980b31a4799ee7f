package display_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func TestLinesOfALogHaveTheTimeAndWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"erp": `^\d\d:\d\d:\d\d erp: .`, "": `^\d\d:\d\d:\d\d [a-z]`, "e\x1b[2J": `^\d\d:\d\d:\d\d e\\x1b\[2J: .`,
	} {
		tracker := progress.New()
		tracker.AddFile("erp-disk-0.raw", 100).SetState(progress.Complete)
		tracker.Event(progress.Warning, "", "a word")
		tracker.SetPhase(progress.Done)
		var out strings.Builder
		p := display.New(&out, display.Plain, display.Options{Stamp: true, Name: name})
		if err := p.Run(t.Context(), tracker); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) < 3 {
			t.Errorf("%q: only %q", name, lines)
		}
		for _, line := range lines {
			if !regexp.MustCompile(want).MatchString(line) {
				t.Errorf("%q: the line %q is not like %s", name, line, want)
			}
		}
	}
}
