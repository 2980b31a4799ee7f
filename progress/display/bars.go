package display

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/pterm/pterm"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Escape sequences (ECMA-48) that a frame consists of.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	cursorUp   = "\x1b[%dA"
	clearLine  = "\x1b[K" // to its end
	clearBelow = "\x1b[J"
)

// barPrinter redraws a frame in place. Each frame is one write that goes over
// the old one line by line, so nothing flickers. The cursor waits on the line
// below the frame.
type barPrinter struct {
	lines
	interval time.Duration
	size     func() (columns, rows int)
	plain    bool  // without colours
	drawn    []int // cells of each line of the frame on the screen
}

func (p *barPrinter) Run(ctx context.Context, t *progress.Tracker) error {
	p.drawn = nil
	_ = p.write([]byte(hideCursor)) // output keeps the error for the next one
	defer func() { _ = p.write([]byte(showCursor)) }()
	return watch(ctx, t, p.interval, func(v view, _ bool) error {
		return p.write(p.frame(v))
	})
}

// frame is what turns the screen into v.
func (p *barPrinter) frame(v view) []byte {
	columns, rows := p.size()
	if columns <= 0 || rows <= 0 {
		columns, rows = 80, 24
	}
	var b bytes.Buffer
	if up := p.height(columns); up > 0 {
		fmt.Fprintf(&b, cursorUp, min(up, rows-1))
	}
	b.WriteByte('\r')
	for _, e := range v.events {
		text := eventText(e) // in full, over as many lines as it takes: it scrolls by
		if e.Level == progress.Warning && !p.plain {
			text = paint(pterm.FgYellow, text)
		}
		b.WriteString(text + clearLine + "\n")
	}
	p.drawn = p.drawn[:0]
	for _, r := range layout(v, columns, rows) {
		if p.plain {
			r.color = 0
		}
		b.WriteString(r.String() + clearLine + "\n")
		p.drawn = append(p.drawn, r.width())
	}
	b.WriteString(clearBelow)
	return b.Bytes()
}

// height is how many lines the frame on the screen takes now: a terminal that
// was made narrower has wrapped its lines.
func (p *barPrinter) height(columns int) int {
	n := 0
	for _, cells := range p.drawn {
		n += max((cells+columns-1)/columns, 1)
	}
	return n
}
