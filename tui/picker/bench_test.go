package picker_test

import (
	"slices"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/tui/picker"
)

// BenchmarkKeyToPaint measures, with 10,000 VMs, the time from a key to the text
// of the whole screen, over a session of typing, deleting, moving, marking and
// sorting. It reports percentiles in milliseconds.
func BenchmarkKeyToPaint(b *testing.B) {
	var session []tea.KeyPressMsg
	for _, query := range []string{"prod erp 0120", "windows esx-07", "is:off db", "pw", "e"} {
		for _, r := range query {
			session = append(session, key(string(r)))
		}
		session = append(session, key("down"), key("tab"), key("ctrl+a"), key("pgdown"), key("ctrl+s"))
		for range query {
			session = append(session, key("backspace"))
		}
	}
	m := picker.New(inventory(10_000), picker.Options{})
	m.Update(tea.WindowSizeMsg{Width: 120, Height: 40})
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		m.Update(session[i%len(session)])
		_ = m.View()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.50), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
}
