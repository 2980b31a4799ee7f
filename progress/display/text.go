package display

import (
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/units"
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

// Flow is a rate off the wire, or for how long no byte has come though some should; once
// none is to come, for how long the phase has gone on.
func Flow(r progress.Reading) string {
	switch {
	case r.Arrived:
		return "for " + Duration(r.Elapsed)
	case r.Stalled > 0:
		return "stalled " + Duration(r.Stalled)
	}
	return units.Rate(r.Rate)
}

// EndOf is the time of day at which a run ends by a reading made at now, to the
// minute and with the day where that is another: "15:04", "Mon 15:04", "2 Jan 15:04".
func EndOf(r progress.Reading, now time.Time) string {
	end := now.Add(r.Remaining).Local()
	if whole := end.Truncate(time.Minute); whole.Before(end) {
		end = whole.Add(time.Minute)
	}
	switch year, month, day := now.Local().Date(); {
	case end.Before(time.Date(year, month, day+1, 0, 0, 0, 0, time.Local)):
		return end.Format("15:04")
	case end.Before(time.Date(year, month, day+7, 0, 0, 0, 0, time.Local)):
		return end.Format("Mon 15:04")
	}
	return end.Format("2 Jan 15:04")
}

// Retries tells of the retries of a file and the latest one's cause, "" of none.
func Retries(f progress.FileSnapshot) string {
	text := ""
	switch {
	case f.Retries == 1:
		text = "1 retry"
	case f.Retries > 1:
		text = fmt.Sprintf("%d retries", f.Retries)
	}
	if text != "" && f.Cause != "" {
		text += ": " + SafeText(strings.ReplaceAll(f.Cause, "_", " "))
	}
	return text
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
