package report

import (
	"html/template"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Rows are the VMs as rows of the page's table. A template takes ten times as long for
// ten thousand of them.
func (r Readiness) Rows() template.HTML {
	var b rows
	for i := range r.VMs {
		b.vm(&r.VMs[i])
	}
	return template.HTML(b.String()) //nolint:gosec // every text goes through rows.text
}

// rows is a part of a page that is being written.
type rows struct{ strings.Builder }

// add writes parts of the page itself.
func (b *rows) add(html ...string) {
	for _, s := range html {
		b.WriteString(s)
	}
}

// text writes text, whatever it is made of.
func (b *rows) text(s string) { template.HTMLEscape(b, []byte(display.SafeText(s))) }

// cell writes a cell of text.
func (b *rows) cell(s string) {
	b.add("<td>")
	b.text(s)
	b.add("</td>")
}

// classes are the looks of states.
var classes = map[string]string{Ready: "good", NeedsShutdown: "warn"}

func (b *rows) vm(j *Judged) {
	class := classes[j.State]
	if class == "" {
		class = "bad"
	}
	b.add("\n", `<tr><th scope="row">`)
	b.text(j.Name)
	b.add(`<br><span class="dim">`)
	b.text(j.Path)
	b.add(`</span></th><td class="`, class, `">`)
	b.text(j.State)
	b.add("</td><td>")
	b.obstacles(j.Obstacles)
	b.add("</td>")
	b.cell(j.Power)
	b.add("<td>")
	b.text(j.Guest)
	if !j.GuestKnown {
		b.add(` <span class="warn">(not known)</span>`)
	}
	b.add("</td>")
	if j.Tools {
		b.cell("running")
	} else {
		b.cell("–")
	}
	b.add(`<td class="n">`, strconv.Itoa(j.Disks))
	for _, x := range []struct {
		has  bool
		name string
	}{{j.VTPM, "vTPM"}, {j.RDM, "RDM"}, {j.Independent, "independent"}} {
		if x.has {
			b.add("<br>", x.name)
		}
	}
	b.add(`</td><td class="n">`, units.Bytes(j.Data), `</td><td class="n">`, display.Duration(j.Time()), `</td><td class="n">`)
	if j.Snapshots > 0 {
		b.add(strconv.Itoa(j.Snapshots))
	}
	b.add("</td>")
	b.cell(strings.Join(j.Datastores, ", "))
	b.cell(strings.Join(j.Networks, ", "))
	b.add("</tr>")
}

func (b *rows) obstacles(obstacles []vsphere.Obstacle) {
	if len(obstacles) == 0 {
		return
	}
	b.add("<ul>")
	for _, o := range obstacles {
		if o.Severity == vsphere.SeverityError {
			b.add(`<li class="bad">`)
		} else {
			b.add("<li>")
		}
		b.text(o.Text)
		if o.Hint != "" {
			b.add(` <span class="dim">(`)
			b.text(o.Hint)
			b.add(`)</span>`)
		}
		b.add("</li>")
	}
	b.add("</ul>")
}
