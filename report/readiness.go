package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// States of a VM in a [Readiness].
const (
	Ready         = "ready"
	NeedsShutdown = "needs-shutdown" // or a temporary snapshot; nothing else is in the way
	NotExportable = "not-exportable" // until a person has changed something
)

// DefaultRate is how fast one disk is taken to come, in bytes per second, where
// nothing better is known (F-NFC-18).
const DefaultRate = 25_000_000

// Readiness says of many VMs whether they can be exported.
type Readiness struct {
	Version   string    `json:"version"` // of the program
	VCenter   string    `json:"vcenter"`
	Generated time.Time `json:"generated"`
	Rate      int64     `json:"rate"` // bytes per second of one disk that the estimates assume

	Total         int   `json:"total"` // VMs
	Ready         int   `json:"ready"`
	NeedsShutdown int   `json:"needs_shutdown"`
	NotExportable int   `json:"not_exportable"`
	Data          int64 `json:"data"`    // bytes to move, of all VMs
	Seconds       int64 `json:"seconds"` // of all VMs, one after the other

	VMs []Judged `json:"vms"`
}

// Judged is one VM of a [Readiness].
type Judged struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	Power string `json:"power"`
	State string `json:"state"` // Ready, NeedsShutdown or NotExportable

	Guest       string   `json:"guest"`
	GuestKnown  bool     `json:"guest_known"` // to what describes domains to libvirt
	Tools       bool     `json:"tools_running"`
	VTPM        bool     `json:"vtpm"`
	RDM         bool     `json:"rdm"`
	Independent bool     `json:"independent_disks"`
	Snapshots   int      `json:"snapshots"`
	Disks       int      `json:"disks"`
	Capacity    int64    `json:"capacity"` // bytes that the disks can hold
	Data        int64    `json:"data"`     // bytes to move: what is in use on the datastores
	Seconds     int64    `json:"seconds"`  // that it may take
	Datastores  []string `json:"datastores"`
	Networks    []string `json:"networks"` // port groups

	Obstacles []vsphere.Obstacle `json:"obstacles"`
}

// Options of [NewReadiness].
type Options struct {
	Version, VCenter string
	Generated        time.Time
	Rate             int64 // bytes per second of one disk; 0 is [DefaultRate]
	Export           job.Options
}

// NewReadiness judges VMs as an export with the options would.
func NewReadiness(vms []vsphere.Surveyed, o Options) Readiness {
	r := Readiness{Version: o.Version, VCenter: o.VCenter, Generated: o.Generated, Rate: o.Rate, Total: len(vms), VMs: []Judged{}}
	if r.Rate <= 0 {
		r.Rate = DefaultRate
	}
	for _, s := range vms {
		j := r.judge(s, o.Export)
		switch j.State {
		case Ready:
			r.Ready++
		case NeedsShutdown:
			r.NeedsShutdown++
		default:
			r.NotExportable++
		}
		r.Data += j.Data
		r.Seconds += j.Seconds
		r.VMs = append(r.VMs, j)
	}
	return r
}

// judge says what is known of one VM.
func (r Readiness) judge(s vsphere.Surveyed, o job.Options) Judged {
	vm := s.VM
	j := Judged{
		Name: vm.DisplayName(), Path: vm.Path, Power: vm.Power, State: Ready,
		Guest: vm.GuestFullName, GuestKnown: guestKnown(vm.GuestID), Tools: vm.ToolsRunning, Snapshots: vm.Snapshots, Disks: len(vm.Disks),
		Data: migrate.SpaceOf(vm, o).AtMost, Datastores: append([]string{}, vm.Datastores...), Networks: []string{},
		Obstacles: append([]vsphere.Obstacle{}, s.Obstacles(vsphere.PreflightOptions{Snapshot: o.Snapshot, RemoveCDROM: o.RemoveCDROM})...),
	}
	for _, d := range vm.Disks {
		j.Capacity += d.Capacity
		j.RDM = j.RDM || d.RDM != ""
		j.Independent = j.Independent || d.Independent()
	}
	for _, n := range vm.NICs {
		if n.Network != "" && !slices.Contains(j.Networks, n.Network) {
			j.Networks = append(j.Networks, n.Network)
		}
	}
	for _, x := range j.Obstacles {
		j.VTPM = j.VTPM || x.Code == vsphere.CodeVTPM
		switch {
		case x.Severity != vsphere.SeverityError:
		case x.Code != vsphere.CodePower:
			j.State = NotExportable
		case j.State == Ready:
			j.State = NeedsShutdown
		}
	}
	atOnce := int64(min(max(len(vm.Disks), 1), max(o.ParallelDownloads, 1)))
	j.Seconds = (j.Data + r.Rate*atOnce - 1) / (r.Rate * atOnce)
	return j
}

// guestKnown reports whether the domain will say which operating system the guest has.
func guestKnown(id string) bool {
	known := kvm.OSInfo(id)
	return known != "" && !strings.HasSuffix(known, "/unknown")
}

// Why is what is in the way, or to be known, in one line.
func (j Judged) Why() string {
	var parts []string
	for _, o := range j.Obstacles {
		parts = append(parts, o.Text)
	}
	if !j.GuestKnown {
		parts = append(parts, "the guest's operating system is not known to libosinfo's list here")
	}
	return strings.Join(parts, "; ")
}

// Time is how long the export may take.
func (j Judged) Time() time.Duration { return time.Duration(j.Seconds) * time.Second }

// Time is how long all of them may take, one after the other.
func (r Readiness) Time() time.Duration { return time.Duration(r.Seconds) * time.Second }

// Counts is one line about all of them.
func (r Readiness) Counts() string {
	return fmt.Sprintf("%d VM(s): %d ready, %d to be shut down (or -snapshot), %d not exportable; %s to move, about %s one VM after the other",
		r.Total, r.Ready, r.NeedsShutdown, r.NotExportable, units.Bytes(r.Data), display.Duration(r.Time()))
}

// Table is the report in columns, with a header; all of it is safe for a terminal.
func (r Readiness) Table() [][]string {
	rows := [][]string{{"VM", "STATE", "POWER", "DISKS", "DATA", "TIME", "SNAPSHOTS", "GUEST", "WHY"}}
	for _, j := range r.VMs {
		rows = append(rows, []string{
			display.SafeText(j.Path), j.State, j.Power, strconv.Itoa(j.Disks), units.Bytes(j.Data), display.Duration(j.Time()),
			strconv.Itoa(j.Snapshots), display.SafeText(j.Guest), display.SafeText(j.Why()),
		})
	}
	return rows
}

// CSV writes the report for a spreadsheet: sizes in bytes, lists joined by "; ".
// Every cell is quoted, because a spreadsheet may take another character than the
// comma for what separates cells.
func (r Readiness) CSV(w io.Writer) error {
	rows := [][]string{{"path", "name", "state", "power", "guest", "guest_known", "tools_running", "vtpm", "rdm", "independent_disks",
		"snapshots", "disks", "capacity_bytes", "data_bytes", "seconds", "datastores", "networks", "why"}}
	for _, j := range r.VMs {
		rows = append(rows, []string{
			cell(j.Path), cell(j.Name), j.State, j.Power, cell(j.Guest), strconv.FormatBool(j.GuestKnown), strconv.FormatBool(j.Tools),
			strconv.FormatBool(j.VTPM), strconv.FormatBool(j.RDM), strconv.FormatBool(j.Independent), strconv.Itoa(j.Snapshots), strconv.Itoa(j.Disks),
			strconv.FormatInt(j.Capacity, 10), strconv.FormatInt(j.Data, 10), strconv.FormatInt(j.Seconds, 10),
			cell(strings.Join(j.Datastores, "; ")), cell(strings.Join(j.Networks, "; ")), cell(j.Why()),
		})
	}
	var b strings.Builder
	for _, row := range rows {
		for i, c := range row {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"` + strings.ReplaceAll(c, `"`, `""`) + `"`)
		}
		b.WriteString("\r\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// formulas are the characters with which a spreadsheet takes a cell for a formula,
// the wide forms of them too.
const formulas = "=+-@\t\r\n|%＝＋－＠"

// cell is text that a spreadsheet takes for text: without control characters, and
// behind an apostrophe where it would be a formula.
func cell(s string) string {
	first := strings.TrimLeft(s, " \u00a0")
	risky := first != "" && strings.ContainsAny(first[:runeLen(first)], formulas)
	if s = display.SafeText(s); risky {
		return "'" + s
	}
	return s
}

// runeLen is how many bytes the first character of s has.
func runeLen(s string) int {
	for i := range s {
		if i > 0 {
			return i
		}
	}
	return len(s)
}

// JSON writes the report.
func (r Readiness) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// HTML writes the report as one page.
func (r Readiness) HTML(w io.Writer) error { return page(w, "readiness", r) }
