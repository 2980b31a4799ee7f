package findings

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/units"
)

// Width is how many columns the text of a report has at most.
const Width = 80

// Write writes the report for a person, in [Width] columns.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	r.writeHead(&b)
	area, differs := "", false
	for _, l := range r.Lines() {
		if l.Area != area {
			area = l.Area
			r.writeArea(&b, area)
		}
		mark := " "
		if l.Differs {
			mark, differs = "*", true
		}
		row := fmt.Sprintf("  %-9s %-34s %-13s %s %s", l.Fact, l.What, l.Expected, mark, l.Seen)
		b.WriteString(strings.TrimRight(row, " ") + "\n")
		if l.Means != "" {
			wrap(&b, l.Means, 12)
		}
	}
	r.writeRates(&b)
	r.writeAdvice(&b)
	if differs {
		b.WriteString("\n* is not what hyper2kvm expects: a report (-o FILE) attached to an issue helps.\n")
	}
	if !r.Complete {
		b.WriteString("\nThe probe was interrupted: this is what it had seen until then.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeHead says what was looked at.
func (r Report) writeHead(b *strings.Builder) {
	name := map[Answer]string{VCenter: "vCenter", Host: "ESXi host"}[r.Service.Kind]
	fmt.Fprintf(b, "%s %s, API %s", cmp.Or(name, "Service"), cmp.Or(r.Service.Version, "?"), cmp.Or(r.Service.APIVersion, "?"))
	if r.Hosts.Count > 0 {
		fmt.Fprintf(b, "; %d ESXi host(s): %s", r.Hosts.Count, cmp.Or(strings.Join(r.Hosts.Versions, ", "), "?"))
	}
	b.WriteString("\n")
	if r.VM.Power == "" {
		b.WriteString("No VM was looked at.\n")
	} else {
		tracking := map[Answer]string{Yes: "on", No: "off"}[r.VM.Tracking]
		fmt.Fprintf(b, "The VM is %s, with %d disk(s) on %s, change tracking %s\n",
			r.VM.Power, r.VM.Disks, cmp.Or(string(r.VM.Datastore), "a datastore"), cmp.Or(tracking, "?"))
	}
	var times []string
	for _, t := range []struct {
		what string
		ms   int
	}{
		{"TCP to the service", r.Timings.ConnectMS}, {"a call", r.Timings.CallMS}, {"TCP to the host", r.Timings.HostMS},
		{"a lease", r.Timings.LeaseMS}, {"a stream's first byte", r.Timings.FirstByteMS}, {"its manifest", r.Timings.ManifestMS},
		{"an open disk on port 902", r.Timings.Port902MS}, {"a snapshot", r.Timings.SnapshotMS},
	} {
		if t.ms > 0 {
			times = append(times, fmt.Sprintf("%s %d ms", t.what, t.ms))
		}
	}
	if len(times) > 0 {
		wrap(b, "It took "+strings.Join(times, ", ")+".", 0)
	}
	fmt.Fprintf(b, "\n  %-9s %-34s %-13s   %s\n", "FACT", "WHAT", "EXPECTED", "SEEN")
}

// writeArea begins an area, and says why it was not looked at.
func (r Report) writeArea(b *strings.Builder, area string) {
	title, why := area, Answer("")
	switch area {
	case "lease":
		title, why = "export lease, port 443 of the host", r.Lease.Why
	case "folder":
		title, why = "datastore under /folder", r.Folder.Why
	case "port 902":
		title, why = "port 902 of the host", r.Port902.Why
	}
	b.WriteString(title)
	if why != "" {
		b.WriteString(": " + Why(why))
	}
	b.WriteString("\n")
	if area == "folder" && r.Folder.Answer == Refused {
		fmt.Fprintf(b, "  the service answers with status %d\n", r.Folder.Status)
	}
}

// writeRates writes a row for each channel.
func (r Report) writeRates(b *strings.Builder) {
	if len(r.Rates) == 0 {
		return
	}
	b.WriteString("\nrates, in all, by streams at a time\n")
	var streams []int
	for _, x := range r.Rates {
		if !slices.Contains(streams, x.Streams) {
			streams = append(streams, x.Streams)
		}
	}
	slices.Sort(streams)
	streams = streams[:min(len(streams), 4)]
	row := fmt.Sprintf("  %-12s", "")
	for _, n := range streams {
		row += fmt.Sprintf(" %15d", n)
	}
	b.WriteString(row + "\n")
	for _, channel := range []Answer{ByLease, ByFolder, By902} {
		r.writeChannel(b, channel, streams)
	}
}

func (r Report) writeChannel(b *strings.Builder, channel Answer, streams []int) {
	row, some := fmt.Sprintf("  %-12s", channel), false
	for _, n := range streams {
		i := slices.IndexFunc(r.Rates, func(x Rate) bool { return x.Channel == channel && x.Streams == n })
		cell := "-"
		if i >= 0 {
			some = true
			if cell = units.Rate(float64(r.Rates[i].PerSec)); r.Rates[i].Served < n {
				cell = fmt.Sprintf("only %d served", r.Rates[i].Served)
			}
		}
		row += fmt.Sprintf(" %15s", cell)
	}
	if some {
		b.WriteString(row + "\n")
	}
}

// writeAdvice says how to export here.
func (r Report) writeAdvice(b *strings.Builder) {
	a := r.Advice
	switch {
	case a == nil:
		return
	case a.Transport == "none":
		b.WriteString("\nNothing can be read as things are: see above.\n")
		return
	}
	because := map[Answer]string{
		"fastest": "it was the fastest", "alone": "it is the only one that works",
		"manifest": "nothing else was clearly faster, and the host tells checksums for it",
	}[a.Because]
	b.WriteString("\n")
	wrap(b, fmt.Sprintf("Recommended: -transport %s -parallel %d: %s. Expect about %s from one host.",
		a.Transport, a.Parallel, because, units.Rate(float64(a.PerSec))), 0)
}

// wrap writes text in lines of at most Width columns, each behind an indent.
func wrap(b *strings.Builder, text string, indent int) {
	line := strings.Repeat(" ", indent)
	width := indent
	for word := range strings.FieldsSeq(text) {
		n := len([]rune(word))
		if width > indent && width+1+n > Width {
			b.WriteString(line + "\n")
			line, width = strings.Repeat(" ", indent), indent
		}
		if width > indent {
			line, width = line+" ", width+1
		}
		line, width = line+word, width+n
	}
	b.WriteString(line + "\n")
}
