package display

import (
	"fmt"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Duration writes a time span for people with its two largest units: "45s",
// "3m05s", "2h05m", "3d04h". A negative one is "?".
func Duration(d time.Duration) string {
	if d < 0 {
		return "?"
	}
	seconds := int64(d.Round(time.Second) / time.Second)
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 60*60:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case seconds < 24*60*60:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds/60%60)
	}
	return fmt.Sprintf("%dd%02dh", seconds/86400, seconds/3600%24)
}

// SafeText is [safetext.Escape]: s without anything that a terminal would act upon
// or that changes how other text reads.
func SafeText(s string) string { return safetext.Escape(s) }

// fit returns s in exactly width cells: padded at its end, or shortened at its
// head, since the ends of file names tell them apart.
func fit(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if runewidth.StringWidth(s) <= width {
		return runewidth.FillRight(s, width)
	}
	excess := runewidth.StringWidth(s) + 1 - width // and a cell for the ellipsis
	rest := ""
	for i, r := range s {
		if excess <= 0 {
			rest = s[i:]
			break
		}
		excess -= runewidth.RuneWidth(r)
	}
	return runewidth.FillRight("…"+rest, width)
}

// clip returns s in at most width cells, shortened at its end.
func clip(s string, width int) string {
	if width <= 0 {
		return ""
	}
	return runewidth.Truncate(s, width, "…")
}
