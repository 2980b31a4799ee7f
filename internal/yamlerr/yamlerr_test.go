package yamlerr_test

import (
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/internal/yamlerr"
)

type login struct {
	Password string `yaml:"password"`
	Number   int    `yaml:"number"`
}

func decode(text string) error {
	var out login
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	return d.Decode(&out)
}

func TestAnErrorIsWordedWithItsLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"password: a\nnumbr: 1\n":  "line 2: unknown key numbr",
		"number: many\n":           "line 1: a text cannot stand here, want a whole number",
		"password: *nothing\n":     `an alias (*…) to nothing; quote a value that begins with "*"`,
		"password: a\n  b: [\n":    "line 2: ",
		"password: \"hunter2\\q\"": "found unknown escape character",
	} {
		err := decode(text)
		if err == nil {
			t.Fatalf("%q was read", text)
		}
		if got := yamlerr.Plain(err).Error(); !strings.Contains(got, want) {
			t.Errorf("%q is worded %q, want %q", text, got, want)
		}
	}
}

func TestNoErrorHoldsAValue(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, text := range []string{
		"password: [hunter2]\n", "password: *hunter2\n", "password: &hunter2 [*hunter2]\n", "password: 'hunter2\n", "password: \"hunter2\\q\"\n",
		"password: !hunter2,x hunter2\n", "password: !<hunter2 x\n", "password: {hunter2: x, }}\n", "password: @hunter2\n",
		"password: %hunter2\n", "password: `hunter2`\n", "%TAG hunter2\n---\npassword: x\n", "number: hunter2\n", "hunter2\n",
	} {
		err := decode(text)
		if err == nil {
			continue
		}
		_, syntax := yamlerr.Syntax(err)
		for _, got := range []string{yamlerr.Plain(err).Error(), syntax} {
			if strings.Contains(got, secret) && !strings.Contains(text, "number") {
				t.Errorf("%q is worded %q, which quotes the value", text, got)
			}
		}
	}
}
