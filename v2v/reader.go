package v2v

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Bounds of what is kept of the program's words.
const (
	maxTold     = 1000 // bytes of a message
	maxWarnings = 20
	maxErrors   = 5
	keptLines   = 20 // of the last words
	lastWords   = 5  // of them are looked at for the reason
)

// reader takes in what virt-v2v says: messages on its standard output, one JSON object a
// line among lines for people (--machine-readable, virt-v2v(1)), and with -v very much on
// its standard error.
type reader struct {
	tell     Teller
	log      io.Writer
	out, err *appliance.Lines

	mu       sync.Mutex
	broken   error // the log could not be written
	virtio   bool  // the guest has the drivers
	scsi     bool  // and boots from virtio-scsi
	noNet    bool  // but not the driver for cards
	warnings []string
	errors   []string
	last     []string // lines of the standard error
	traces   map[trace]bool
}

func newReader(tell Teller, log io.Writer) *reader {
	r := &reader{tell: tell, log: log, traces: map[trace]bool{}}
	r.out, r.err = appliance.NewLines(r.message), appliance.NewLines(r.word)
	return r
}

func (r *reader) messages() io.Writer { return logged{r, r.out} }
func (r *reader) words() io.Writer    { return logged{r, r.err} }

// logged writes into the log, and takes the lines.
type logged struct {
	r     *reader
	lines *appliance.Lines
}

func (l logged) Write(p []byte) (int, error) {
	l.r.mu.Lock()
	if _, err := l.r.log.Write(p); err != nil && l.r.broken == nil {
		l.r.broken = err
	}
	l.r.mu.Unlock()
	return l.lines.Write(p)
}

// end takes what there is for the last lines.
func (r *reader) end() {
	r.out.End()
	r.err.End()
}

// message takes a line of the standard output.
func (r *reader) message(line string) {
	var m struct {
		Message string `json:"message"`
		Type    string `json:"type"`
	}
	if json.Unmarshal([]byte(line), &m) != nil || m.Message == "" {
		return // for people, who get it from the object beside it
	}
	text := safetext.Bounded(m.Message, maxTold)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m.Type {
	case "message", "info":
		r.caps(text)
		r.tell.Phase(text)
	case "warning":
		r.caps(text)
		if len(r.warnings) < maxWarnings {
			r.warnings = append(r.warnings, text)
		}
	case "error":
		if len(r.errors) < maxErrors {
			r.errors = append(r.errors, text)
		}
	}
}

// word takes a line of the standard error.
func (r *reader) word(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, what := range traces {
		if strings.Contains(line, text) {
			r.traces[what] = true
		}
	}
	r.caps(line)
	r.last = append(r.last, line)
	r.last = r.last[max(len(r.last)-keptLines, 0):]
}

// bus is how virt-v2v says with -v what the guest is to have its disks and cards on.
var bus = regexp.MustCompile(`gcaps_(block|net)_bus = (\S+)`)

// caps looks what a line says of the drivers that the guest has now.
func (r *reader) caps(line string) {
	switch {
	case strings.Contains(line, "This guest has virtio drivers installed"):
		r.virtio = true
	case strings.Contains(line, "there is no virtio network driver"):
		r.noNet = true
	}
	switch m := bus.FindStringSubmatch(line); {
	case m == nil:
	case m[1] == "block":
		r.virtio, r.scsi = strings.HasPrefix(m[2], "virtio"), m[2] == "virtio-scsi"
	default:
		r.noNet = !strings.HasPrefix(m[2], "virtio")
	}
}

// outcome is that of a run that has succeeded.
func (r *reader) outcome(version string) Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Outcome{Program: version, VirtioDisks: r.virtio, SCSI: r.scsi, VirtioCards: r.virtio && !r.noNet, Warnings: r.warnings}
}

// explain is err with what the program has said of it, and with advice.
func (r *reader) explain(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := strings.Join(r.errors, "; ")
	if said != "" {
		err = fmt.Errorf("%s: %s (%w)", Program, said, err)
	} else if n := len(r.last); n > 0 {
		err = fmt.Errorf("%s: %w; its last words: %s", Program, err, safetext.Bounded(r.last[n-1], maxTold))
	} else {
		err = fmt.Errorf("%s: %w", Program, err)
	}
	all := said + "\n" + strings.Join(r.warnings, "\n") + "\n" + strings.Join(r.last[max(len(r.last)-lastWords, 0):], "\n")
	for _, k := range known {
		if k.says.MatchString(all) && (k.trace == "" || r.traces[k.trace]) {
			return fault.Permanent(fault.WithHint(err, k.hint))
		}
	}
	if known := appliance.Explain(err, all); fault.Hint(known) != "" {
		return known
	}
	return fault.WithHint(err, "the log of the conversion says more; without -convert the VM has the hardware that it had, which boots as a rule")
}
