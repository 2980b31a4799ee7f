// Package graph draws how fast bytes came as a picture of the dashboard: SVG that the
// server makes, without a script, with the same figures as a table for those who do not
// see it.
//
// The picture stretches with the page. Its labels are text beside it and not in it, so
// that they stay legible at any width. What it looks like (colours, dashes) is in the
// stylesheet; lines differ in more than their colour.
package graph

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/units"
)

const (
	width, height = 720, 200 // of the picture's own units
	// maxLines is how many hosts have a line of their own; the total has all of them.
	maxLines = 5
	// tableRows is how many rows the table has.
	tableRows = 12
	ticks     = 4 // horizontal lines above that of 0
)

//go:embed graph.html
var text string

var page = template.Must(template.New("graph").Parse(text))

// picture is what the template shows.
type picture struct {
	ID, Title, Description string
	Width, Height          int
	Grid                   []string // y of the horizontal lines
	Scale                  []string // their rates, the highest first
	Times                  []string // along the bottom
	Area                   string   // path of all hosts together
	Lines                  []line
	More                   int // hosts without a line
	Columns                []string
	Rows                   []row
	Empty                  bool
}

type line struct {
	Class, Name, Path, Now string
}

type row struct {
	Time  string
	Cells []string
}

// names of windows, for people.
var names = map[string]string{"hour": "the last hour", "day": "the last 24 hours", "month": "the last 30 days"}

// Draw returns the graph of rates. id makes the ids in it unique on a page.
func Draw(id string, r models.Rates) (template.HTML, error) {
	top := scaleFor(highest(r))
	p := picture{
		ID: id, Width: width, Height: height,
		Title: "Throughput in " + cmp.Or(names[r.Window], "time"),
		Area:  path(r.BytesPerSecond, top) + fmt.Sprintf("V%dH0Z", height),
		Empty: highest(r) == 0,
	}
	for i := ticks; i >= 0; i-- {
		p.Grid = append(p.Grid, coordinate(height-float64(height*i)/ticks))
		p.Scale = append(p.Scale, units.Rate(top*float64(i)/ticks))
	}
	p.Times = times(r)
	p.Lines = append(p.Lines, line{"total", "All", path(r.BytesPerSecond, top), units.Rate(last(r.BytesPerSecond))})
	for i, h := range r.Hosts {
		if i == maxLines {
			p.More = len(r.Hosts) - maxLines
			break
		}
		p.Lines = append(p.Lines, line{fmt.Sprintf("host%d", i+1), hostName(h), path(h.BytesPerSecond, top), units.Rate(last(h.BytesPerSecond))})
	}
	p.Description = describe(r)
	p.fill(r)
	var b strings.Builder
	if err := page.Execute(&b, p); err != nil {
		return "", err
	}
	return template.HTML(b.String()), nil //nolint:gosec // made by html/template
}

func hostName(h models.HostRate) string { return cmp.Or(h.Host, "host not known") }

// highest is the highest rate; that of all hosts together is never lower than one's.
func highest(r models.Rates) (most int64) {
	for _, n := range r.BytesPerSecond {
		most = max(most, n)
	}
	return most
}

// scaleFor is the rate at the top: a round number above the highest.
func scaleFor(most int64) float64 {
	if most <= 0 {
		return 1 << 20
	}
	unit := math.Pow(1024, math.Floor(math.Log(float64(most))/math.Log(1024)))
	for _, n := range []float64{1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400, 600, 800, 1024} {
		if n*unit >= float64(most) {
			return n * unit
		}
	}
	return float64(most)
}

// path is the curve of rates, whose highest place is top.
func path(rates []int64, top float64) string {
	var b strings.Builder
	was, drawn := "", 0
	for i, n := range rates {
		y := coordinate(height * (1 - min(float64(n)/top, 1)))
		// What lies on a level line is left out: most of a quiet day is one.
		if i > 0 && i < len(rates)-1 && y == was && n == rates[i+1] {
			continue
		}
		was = y
		command := "L"
		if drawn == 0 {
			command = "M"
		}
		drawn++
		b.WriteString(command + coordinate(float64(width*i)/float64(max(len(rates)-1, 1))) + " " + y)
	}
	return b.String()
}

func coordinate(v float64) string {
	return strings.TrimSuffix(strings.TrimSuffix(fmt.Sprintf("%.1f", v), "0"), ".")
}

// times are the labels along the bottom: the begin, the middle and the end.
func times(r models.Rates) []string {
	layout := "15:04"
	if r.Window == "month" {
		layout = "2 Jan"
	}
	half := r.Start.Add(r.End.Sub(r.Start) / 2)
	return []string{r.Start.UTC().Format(layout), half.UTC().Format(layout), r.End.UTC().Format(layout + " MST")}
}

func last(rates []int64) float64 {
	if len(rates) == 0 {
		return 0
	}
	return float64(rates[len(rates)-1])
}

// mean is the average of some steps.
func mean(rates []int64) float64 {
	var sum int64
	for _, n := range rates {
		sum += n
	}
	return float64(sum) / float64(max(len(rates), 1))
}

// describe says in a sentence what the curve shows.
func describe(r models.Rates) string {
	if highest(r) == 0 {
		return "No byte came in this time."
	}
	return fmt.Sprintf("%s now, %s on average, %s at most; through %d hosts.",
		units.Rate(last(r.BytesPerSecond)), units.Rate(mean(r.BytesPerSecond)), units.Rate(float64(highest(r))), len(r.Hosts))
}

// fill makes the table: averages over as many steps as give tableRows rows.
func (p *picture) fill(r models.Rates) {
	p.Columns = []string{"From (UTC)"}
	curves := [][]int64{r.BytesPerSecond}
	for _, h := range r.Hosts[:min(len(r.Hosts), maxLines)] {
		curves = append(curves, h.BytesPerSecond)
	}
	for _, l := range p.Lines {
		p.Columns = append(p.Columns, l.Name)
	}
	layout := "15:04"
	if r.Window != "hour" {
		layout = "2 Jan 15:04"
	}
	n := len(r.BytesPerSecond)
	size := max((n+tableRows-1)/tableRows, 1)
	for from := 0; from < n; from += size {
		one := row{Time: r.Start.Add(time.Duration(from*r.StepSeconds) * time.Second).UTC().Format(layout)}
		for _, c := range curves {
			one.Cells = append(one.Cells, units.Rate(mean(c[from:min(from+size, len(c))])))
		}
		p.Rows = append(p.Rows, one)
	}
}
