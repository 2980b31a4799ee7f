package main

import (
	"strings"
	"testing"
)

func TestWithoutATerminalAnInteractiveCommandSaysWhatToRunInstead(t *testing.T) {
	t.Parallel()
	cases := []struct {
		args []string
		want []string
	}{
		{[]string{"hyper2kvm"}, []string{"needs a terminal", "hyper2kvm list", "hyper2kvm export -vm PATH -output DIR"}},
		{[]string{"hyper2kvm", "-json"}, []string{"needs a terminal"}},
		{[]string{"hyper2kvm", "-daemon", "http://d:8080"}, []string{"h2kvmctl -daemon http://d:8080 submit"}},
		{[]string{"hyper2kvm", "watch", "-daemon", "http://d:8080"}, []string{"needs a terminal", "h2kvmctl watch -all"}},
		{[]string{"hyper2kvm", "-daemon", "http://d:8080", "watch"}, []string{"h2kvmctl watch -all"}},
		{[]string{"hyper2kvm", "watch", "job"}, []string{`takes no argument "job"`}},
	}
	for _, c := range cases {
		var out, errOut strings.Builder
		if code := run(t.Context(), c.args, &out, &errOut, func(string) string { return "" }); code != exitUsage {
			t.Errorf("%q exits with %d, want %d", c.args, code, exitUsage)
		}
		for _, part := range c.want {
			if !strings.Contains(errOut.String(), part) {
				t.Errorf("%q: %q is not in %q", c.args, part, errOut.String())
			}
		}
		if out.Len() > 0 {
			t.Errorf("%q prints %q", c.args, out.String())
		}
	}
}
