package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/tui/profile"
)

func TestTheCommandsOfTheReadmeAreThereWithTheirFlags(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot(terminal.New(io.Discard, io.Discard), func(string) string { return "" }, nil)
	seen := 0
	for _, line := range regexp.MustCompile(`(?m)^hyper2kvm (\w+)([^#\n]*)`).FindAllStringSubmatch(string(text), -1) {
		cmd := root.Command(line[1])
		if cmd == nil {
			t.Errorf("there is no command %q", line[0])
			continue
		}
		seen++
		for _, word := range strings.Fields(line[2]) {
			name, isFlag := strings.CutPrefix(word, "-")
			if isFlag && !slices.ContainsFunc(slices.Concat(cmd.Flags, root.Flags), func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) {
				t.Errorf("%q: there is no flag -%s", line[0], name)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d commands are in the README", seen)
	}
	for _, part := range []string{"saved, without its password", ".config/hyper2kvm/profiles.yaml", "-profile NAME", profile.FormatVariable, "completion bash"} {
		if !strings.Contains(string(text), part) {
			t.Errorf("the README does not tell of %q", part)
		}
	}
}
