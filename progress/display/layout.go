package display

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/pterm/pterm"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// row is one line of a frame, in parts so that only some of it is coloured.
type row struct {
	name, done, todo, info string
	color                  pterm.Color
}

// width is the row's cells on the terminal.
func (r row) width() int { return runewidth.StringWidth(r.name + r.done + r.todo + r.info) }

// String is the row with its escape sequences.
func (r row) String() string {
	if r.color == 0 {
		return r.name + r.done + r.todo + r.info
	}
	return r.name + paint(r.color, r.done) + paint(pterm.FgDarkGray, r.todo) + r.info
}

func paint(c pterm.Color, s string) string {
	if s == "" {
		return ""
	}
	return c.Sprint(s)
}

const (
	widestName = 32
	widestBar  = 30
	leastBar   = 8
)

// layout draws v in at most columns-1 cells and rows-1 lines; the last line of
// the terminal is where the cursor waits.
func layout(v view, columns, rows int) []row {
	width, height := max(columns-1, 1), max(rows-1, 1)
	if len(v.Files) == 0 {
		return []row{{name: clip(string(v.Phase)+doing(v), width)}}
	}
	frame := []row{headline(v, width)}
	room := height - 2 // for files, between headline and total
	shown, rest := choose(v.Files, room)
	bars := make([]fileView, 0, len(shown)+1)
	for _, i := range shown {
		bars = append(bars, viewOf(v.Files[i], v.files[i]))
	}
	bars = append(bars, fileView{name: "total", fraction: v.Percent() / 100, info: totalInfo(v), color: pterm.FgCyan})
	nameWidth := 0
	for _, fv := range bars {
		nameWidth = max(nameWidth, runewidth.StringWidth(fv.name))
	}
	nameWidth = min(nameWidth, widestName, max(width*3/10, 1))
	for _, fv := range bars[:len(shown)] {
		frame = append(frame, bar(fv, nameWidth, width))
	}
	if rest != "" && room > 0 {
		frame = append(frame, row{name: clip(rest, width)})
	}
	frame = append(frame, bar(bars[len(shown)], nameWidth, width))
	if len(frame) > height {
		frame = frame[len(frame)-height:]
	}
	return frame
}

func headline(v view, width int) row {
	text := fmt.Sprintf("%s  %d of %d files complete%s", v.Phase, v.Finished(), len(v.Files), doing(v))
	return row{name: clip(text, width)}
}

// doing is what goes on beside the bars, to be put behind something else; "" for
// nothing.
func doing(v view) string {
	if v.Activity == "" {
		return ""
	}
	return "  " + SafeText(v.Activity)
}

// fileView is what a bar shows.
type fileView struct {
	name     string
	fraction float64  // 0..1, negative when unknown
	info     []string // most important first
	color    pterm.Color
}

func viewOf(f progress.FileSnapshot, r progress.Reading) fileView {
	fv := fileView{name: SafeText(f.Name), fraction: -1, color: pterm.FgCyan}
	percent := units.Bytes(f.Received)
	if size := f.Size(); size > 0 {
		fv.fraction = min(max(float64(f.Done())/float64(size), 0), 1)
		percent = fmt.Sprintf("%5.1f%%", fv.fraction*100)
	}
	switch f.State {
	case progress.Complete:
		fv.fraction, fv.color = 1, pterm.FgGreen
		fv.info = []string{"complete", units.Bytes(f.Size())}
	case progress.Failed:
		fv.color = pterm.FgRed
		fv.info = []string{"failed", percent}
	case progress.Waiting:
		fv.info = []string{"waiting"}
	case progress.Retrying:
		fv.color = pterm.FgYellow
		fv.info = []string{percent, "retrying"}
	default:
		fv.info = []string{percent, Flow(r)}
		if r.Remaining >= 0 {
			fv.info = append(fv.info, Duration(r.Remaining)+" left")
		}
	}
	if text := Retries(f); text != "" {
		fv.info = append(fv.info, text)
	}
	return fv
}

func totalInfo(v view) []string {
	info := []string{fmt.Sprintf("%5.1f%%", v.Percent()), Flow(v.total)}
	timed := v.total.Remaining >= 0 && v.Percent() < 100
	if timed {
		info = append(info, Duration(v.total.Remaining)+" left")
	}
	info = append(info, units.Bytes(v.Position())+" of "+units.Bytes(v.Total()))
	if timed {
		info = append(info, "ends "+EndOf(v.total, v.now))
	}
	return info
}

// bar draws one fileView in width cells, nameWidth of them for its name. What
// does not fit goes: the least important information first, then the bar, then
// the name's head.
func bar(fv fileView, nameWidth, width int) row {
	barWidth := 0
	for _, info := range []string{"  100.0%  999.9 MiB/s  59m59s left  9 retries", "  100.0%  999.9 MiB/s  59m59s left", "  100.0%  999.9 MiB/s", "  100.0%"} {
		if room := width - nameWidth - 1 - len(info); room >= leastBar {
			barWidth = min(room, widestBar)
			break
		}
	}
	r := row{name: fit(fv.name, nameWidth), color: fv.color}
	left := width - nameWidth
	if barWidth > 0 {
		filled := 0
		if fv.fraction > 0 {
			filled = int(fv.fraction * float64(barWidth))
		}
		r.name += " "
		r.done, r.todo = strings.Repeat("━", filled), strings.Repeat("─", barWidth-filled)
		left -= barWidth + 1
	}
	for i, text := range fv.info {
		text = "  " + text
		if runewidth.StringWidth(r.info+text) > left {
			if i == 0 {
				r.info = clip(text, left)
			}
			break
		}
		r.info += text
	}
	return r
}

// choose returns the indices, ascending, of the files to draw in room lines,
// and a line that sums up the others, or "". What moves comes first, then what
// failed, what waits, and what is complete.
func choose(files []progress.FileSnapshot, room int) (shown []int, rest string) {
	order := make([]int, len(files))
	for i := range order {
		order[i] = i
	}
	if len(files) <= room {
		return order, ""
	}
	slices.SortStableFunc(order, func(a, b int) int { return urgency(files[a].State) - urgency(files[b].State) })
	keep := max(room-1, 0)
	shown = slices.Sorted(slices.Values(order[:keep]))
	counts := make(map[progress.FileState]int)
	for _, i := range order[keep:] {
		counts[files[i].State]++
	}
	var parts []string
	for _, s := range []progress.FileState{progress.Active, progress.Retrying, progress.Failed, progress.Waiting, progress.Complete} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	return shown, "… and " + strings.Join(parts, ", ")
}

func urgency(s progress.FileState) int {
	return slices.Index([]progress.FileState{progress.Active, progress.Retrying, progress.Failed, progress.Waiting, progress.Complete}, s)
}
