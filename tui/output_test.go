package tui

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// counter counts what is written to a terminal.
type counter struct {
	n     atomic.Int64
	drawn chan struct{} // gets one once a screen was written
}

// screenful is less than the first screen takes and more than all else.
const screenful = 1000

func (c *counter) Write(b []byte) (int, error) {
	if c.n.Add(int64(len(b))) > screenful {
		select {
		case c.drawn <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}

// written shows a screen of VMs, then presses a key, and returns how many bytes
// went to the terminal from then on.
func written(t *testing.T, key tea.KeyPressMsg) int64 {
	t.Helper()
	var vms []vsphere.VM
	for i := range 2000 {
		name := fmt.Sprintf("prod-erp-%04d", i)
		vms = append(vms, vsphere.VM{Ref: name, Name: name, Path: "/DC0/vm/" + name, GuestFullName: "Debian GNU/Linux 12 (64-bit)"})
	}
	quiet := services{title: "vc", do: func(func(context.Context) tea.Msg) tea.Cmd { return nil }}
	out := counter{drawn: make(chan struct{}, 1)}
	in, typist := io.Pipe()
	defer typist.Close()
	p := tea.NewProgram(newWizard(quiet, vms, plan.Choices{}), tea.WithInput(in), tea.WithOutput(&out),
		tea.WithoutSignalHandler(), tea.WithWindowSize(80, 24), tea.WithFPS(frames), tea.WithEnvironment([]string{"TERM=xterm-256color", "SSH_TTY=/dev/pts/1", "TERM_PROGRAM=x"}))
	over := make(chan error, 1)
	go func() { _, err := p.Run(); over <- err }()
	<-out.drawn
	before := out.n.Load()
	p.Send(key)
	p.Quit()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	return out.n.Load() - before
}

// least is the least of several times: a screen that had still to be drawn when the key
// came, as happens on a loaded machine, is no cost of the key.
func least(t *testing.T, key tea.KeyPressMsg) int64 {
	t.Helper()
	n := written(t, key)
	for range 4 {
		n = min(n, written(t, key))
	}
	return n
}

func TestAKeyCostsLittleOnASlowLine(t *testing.T) {
	t.Parallel()
	nothing := least(t, tea.KeyPressMsg{Code: tea.KeyF5}) // what leaving the screen takes
	for name, c := range map[string]struct {
		key  tea.KeyPressMsg
		most int64 // bytes
	}{
		"moving the cursor": {tea.KeyPressMsg{Code: tea.KeyDown}, 600},
		"marking":           {tea.KeyPressMsg{Code: tea.KeyTab}, 700},
	} {
		cost := least(t, c.key) - nothing
		t.Logf("%s costs %d bytes", name, cost)
		if cost > c.most || cost <= 0 {
			t.Errorf("%s costs %d bytes, want at most %d and some", name, cost, c.most)
		}
	}
}
