// Package fields is how the options of a job are asked for: their labels, what they do
// in a sentence, what there is to choose from. The terminal's page of options and the
// dashboard's form take their words from here, so that both ask the same.
//
// An option that is new and not described yet is on [All] all the same, with its key as
// the label. Whether answers go together is for [job.Definition.Validate] to say.
package fields

import (
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// Kind is how a field is answered.
type Kind string

// The kinds.
const (
	Choice Kind = "choice" // one of Choices
	Switch Kind = "switch" // yes or no
	Number Kind = "number" // from Least to Most
	Text   Kind = "text"
)

// Field is one option.
type Field struct {
	Key         string // its name in a job's options, as JSON has it
	Label       string
	Help        string // a sentence or two
	Kind        Kind
	Choices     []string // the first is what one begins with
	Least, Most int      // of a number
	Example     string   // of a text
	More        bool     // few ask for it
}

// Field returns the problem's field of a job, as "options.format".
func (f Field) Field() string { return "options." + f.Key }

// described are the options in the order in which they are asked for.
var described = []Field{
	{Key: "format", Label: "Format", Kind: Choice, Choices: words(job.FormatQcow2, job.FormatRaw, job.FormatOVF, job.FormatOVA),
		Help: "qcow2 and raw come with a libvirt domain for KVM; ovf keeps the disks as vSphere sends them, ova does so in one file."},
	{Key: "parallel_downloads", Label: "Disks at a time per VM", Kind: Number, Least: 1, Most: job.MaxParallelDownloads,
		Help: "Transfers side by side, of disks and of ranges where the host serves them."},
	{Key: "snapshot", Label: "Snapshot running VMs", Kind: Switch,
		Help: "A VM that runs is exported from a temporary snapshot. Without, it is refused."},
	{Key: "shutdown", Label: "Shut running VMs down", Kind: Switch,
		Help: "The guest of a running VM is shut down through VMware Tools first. It stays off if the export succeeds, and is powered on again if it fails."},
	{Key: "remove_cdrom", Label: "Remove CD/DVD drives", Kind: Switch,
		Help: "Takes the drives out of the VM first. They are put back if the export fails."},
	{Key: "virtio", Label: "Virtio", Kind: Switch,
		Help: "Disks and NICs on virtio in the libvirt domain. The guest needs the drivers; without them it does not boot."},
	{Key: "convert", Label: "Convert the guest", Kind: Switch,
		Help: "virt-v2v puts drivers and a boot loader for KVM into the guest, in its images; the domain is on virtio then. Without, the VM has the hardware that it had."},
	{Key: "keep_ip", Label: "Keep addresses", Kind: Switch, More: true,
		Help: "A Linux guest gets files in its images by which its new cards have the names and addresses that VMware Tools reported."},
	{Key: "compress", Label: "Compress", Kind: Switch,
		Help: "Compressed qcow2 clusters, taken over from vSphere's stream: smaller, and no slower to write."},
	{Key: "transport", Label: "Read disks by", Kind: Choice, Choices: words(job.TransportNFC, job.TransportAuto, job.TransportDatastore, job.TransportNFC902),
		Help: "nfc: the export lease. datastore: ranges of the disk's file, of a VM that is off and has no snapshots. nfc902: at random over port 902 of the host. auto: what can be, and says why."},
	{Key: "overwrite", Label: "Overwrite", Kind: Switch,
		Help: "Replaces what an earlier export left in the output directory."},
	{Key: "power_off", Label: "Power running VMs off", Kind: Switch, More: true,
		Help: "A running VM is powered off first; with the shutdown of the guest, where that does not succeed in time."},
	{Key: "shutdown_timeout", Label: "Time to shut down", Kind: Text, Example: "5m", More: true,
		Help: "How long a guest may take to shut down."},
	{Key: "verify", Label: "Verify", Kind: Choice, Choices: append([]string{""}, words(job.VerifyFull, job.VerifyManifest)...), More: true,
		Help: "Every disk is verified in any case. full: every grain is inflated, too, and a datastore is read twice. manifest: nothing but vSphere's manifest counts."},
	{Key: "limit", Label: "Bandwidth", Kind: Text, Example: "200MB/s", More: true,
		Help: "What each job may take; empty is no limit of its own. It can be changed while the job runs."},
	{Key: "retries", Label: "Retries", Kind: Number, Most: job.MaxRetries, More: true,
		Help: "Attempts after the first, when a whole job fails."},
	{Key: "finish", Label: "Mark the source", Kind: Text, Example: "tag,rename,disconnect", More: true,
		Help: "What is done to the source VM once all has succeeded: tag, rename, disconnect, or several with commas."},
	{Key: "network_map", Label: "Networks", Kind: Text, Example: "VM Network=default,*=bridge:br0", More: true,
		Help: "Where the domain's network cards are attached: a libvirt network, or a bridge, for each port group."},
	{Key: "for", Label: "Landing kits", Kind: Text, Example: "proxmox,kubevirt", More: true,
		Help: "Scripts or manifests beside the images, for " + strings.Join(job.Targets[:], ", ") + "."},
	{Key: "libvirt", Label: "Land at libvirt", Kind: Text, Example: "qemu:///system", More: true,
		Help: "The libvirt that the images go to, of the machine that exports; a daemon has to allow it."},
	{Key: "pool", Label: "Storage pool", Kind: Text, Example: "default", More: true,
		Help: "The pool for the images at libvirt; without it they stay in the output directory."},
	{Key: "define", Label: "Define the domain", Kind: Switch, More: true,
		Help: "The domain is defined at libvirt. Each port group needs a network."},
	{Key: "start", Label: "Start the domain", Kind: Switch, More: true,
		Help: "The domain is defined and started, and the guest waited for."},
	{Key: "on_collision", Label: "When a name is taken", Kind: Choice, Choices: append([]string{""}, words(job.CollisionRefuse, job.CollisionSuffix)...), More: true,
		Help: "refuse: the job fails before it changes anything. suffix: the name gets -2, -3, … behind it."},
}

// unasked are the options that mean something to one way of showing progress alone, and
// those of the way back, which is no export.
var unasked = []string{"show_individual_progress", "rollback", "stop_timeout", "target_is_stopped"}

// words are texts of any type as texts.
func words[T ~string](all ...T) []string {
	out := make([]string, len(all))
	for i, one := range all {
		out[i] = string(one)
	}
	return out
}

// All are the options of a job in the order in which they are asked for.
func All() []Field {
	all := slices.Clone(described)
	for key, t := range options() {
		if slices.Contains(unasked, key) || slices.ContainsFunc(all, func(f Field) bool { return f.Key == key }) {
			continue
		}
		f := Field{Key: key, Label: strings.ReplaceAll(key, "_", " "), Kind: Text, More: true}
		switch t.Kind() {
		case reflect.Bool:
			f.Kind = Switch
		case reflect.Int:
			f.Kind, f.Most = Number, 1<<31-1
		}
		all = append(all, f)
	}
	return all
}

// Of returns the option with a key. It panics when there is none: a program asks for
// those that it knows.
func Of(key string) Field {
	for _, f := range All() {
		if f.Key == key {
			return f
		}
	}
	panic("fields: a job has no option " + key)
}

// options yields the keys of a job's options with their types.
func options() iter.Seq2[string, reflect.Type] {
	return func(yield func(string, reflect.Type) bool) {
		for _, f := range reflect.VisibleFields(reflect.TypeFor[job.Options]()) {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || key == "" || key == "-" {
				continue
			}
			if !yield(key, f.Type) {
				return
			}
		}
	}
}

// Read makes options of answers: answer returns what was given for a key, "" for
// nothing, and for a switch that is on anything but "". What cannot be read is a
// [*job.ValidationError]; what may not be is left to [job.Definition.Validate].
func Read(answer func(key string) string) (job.Options, error) {
	values := make(map[string]any)
	var problems []job.Problem
	for _, f := range All() {
		text := strings.TrimSpace(answer(f.Key))
		if text == "" {
			continue
		}
		switch {
		case f.Kind == Switch:
			values[f.Key] = true
		case f.Kind == Number:
			n, err := strconv.Atoi(text)
			if err != nil {
				problems = append(problems, job.Problem{Field: f.Field(), Reason: fmt.Sprintf("must be a number from %d to %d", f.Least, f.Most)})
				continue
			}
			values[f.Key] = n
		case f.Key == "network_map":
			networks, err := job.ParseNetworkMap(text)
			if err != nil {
				problems = append(problems, job.Problem{Field: f.Field(), Reason: "must be PORTGROUP=NETWORK, several with commas between them"})
				continue
			}
			values[f.Key] = networks
		default:
			values[f.Key] = text
		}
	}
	var o job.Options
	if len(problems) > 0 {
		return o, &job.ValidationError{Problems: problems}
	}
	data, err := json.Marshal(values)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(data, &o); err != nil { // an option of a type that no text gives
		return o, fmt.Errorf("options: %w", err)
	}
	return o, nil
}

// Answer returns what o has for a field, as [Read] takes it.
func (f Field) Answer(o job.Options) string {
	if f.Key == "network_map" {
		return job.FormatNetworkMap(o.NetworkMap)
	}
	v := reflect.ValueOf(o)
	for _, field := range reflect.VisibleFields(v.Type()) {
		if key, _, _ := strings.Cut(field.Tag.Get("json"), ","); key != f.Key {
			continue
		}
		switch value := v.FieldByIndex(field.Index); value.Kind() {
		case reflect.Bool:
			if value.Bool() {
				return "on"
			}
		case reflect.Int:
			if value.Int() != 0 {
				return strconv.FormatInt(value.Int(), 10)
			}
		case reflect.String:
			return value.String()
		}
	}
	return ""
}
