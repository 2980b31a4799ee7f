package guestnet_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/job"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// shape is a guest of testdata: a line of words about it, its cards, its files.
func shape(t *testing.T, a *txtar.Archive) (n job.GuestNetwork, g guestnet.Guest) {
	t.Helper()
	n.Known = true
	g.Files = map[string]string{}
	for word := range strings.FieldsSeq(string(a.Comment)) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "systemd":
			g.Systemd, _ = strconv.Atoi(value)
		case "enabled":
			g.Enabled = strings.Split(value, ",")
		}
	}
	for _, f := range a.Files {
		switch f.Name {
		case "want":
		case "cards":
			for line := range strings.Lines(string(f.Data)) {
				n.Interfaces = append(n.Interfaces, cardOf(t, strings.Fields(line)))
			}
		default:
			g.Files["/"+f.Name] = string(f.Data)
		}
	}
	return n, g
}

// cardOf reads a card: its MAC address, then addresses with or without their origin,
// "dhcp", gateway=, dns=, search=.
func cardOf(t *testing.T, words []string) job.GuestInterface {
	t.Helper()
	i := job.GuestInterface{MAC: words[0], Connected: true}
	for _, w := range words[1:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "dhcp":
			i.DHCP = true
		case "gateway", "dns":
			for text := range strings.SplitSeq(value, ",") {
				if key == "dns" {
					i.DNS = append(i.DNS, netip.MustParseAddr(text))
				} else {
					i.Gateways = append(i.Gateways, netip.MustParseAddr(text))
				}
			}
		case "search":
			i.Search = strings.Split(value, ",")
		default:
			p := netip.MustParsePrefix(key)
			i.Addresses = append(i.Addresses, job.GuestAddress{Address: p.Addr(), Prefix: p.Bits(), Origin: value})
		}
	}
	return i
}

// text is what there is to say of a plan.
func text(c guestnet.Changes, err error) string {
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, told := range c.Told {
		fmt.Fprintln(&b, told)
	}
	for _, f := range c.Files {
		fmt.Fprintf(&b, "== %s %#o\n%s", f.Path, f.Mode, f.Data)
	}
	if c.Relabel {
		b.WriteString("== SELinux labels the files\n")
	}
	return b.String()
}

func TestEachShapeOfAGuestKeepsItsAddressesOrIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n, g := shape(t, a)
			changes, err := guestnet.Plan(n, g)
			if err != nil && !errors.Is(err, guestnet.ErrUnclear) {
				t.Errorf("error %v", err)
			}
			got := text(changes, err)
			at := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
			if at < 0 {
				at = len(a.Files)
				a.Files = append(a.Files, txtar.File{Name: "want"})
			}
			want := string(a.Files[at].Data)
			a.Files[at].Data = []byte(got)
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("it comes to\n%s\nwant\n%s", got, want)
			}

			// Once more, in a guest that has been through it.
			for _, f := range changes.Files {
				if guestnet.Wanted(f.Path) {
					g.Files[f.Path] = f.Data
				}
			}
			again, err2 := guestnet.Plan(n, g)
			if (err == nil) != (err2 == nil) {
				t.Fatalf("the second time: %v", err2)
			}
			for _, f := range again.Files {
				if !slices.Contains(changes.Files, f) {
					t.Errorf("the second time it writes %s:\n%s", f.Path, f.Data)
				}
			}
		})
	}
}
