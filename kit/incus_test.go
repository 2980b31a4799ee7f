package kit_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// incusGrammar is what the commands take (incus(1) of 6.0 and later), as expressions for
// the values of their options, and of their words behind the command.
var incusGrammar = map[string]struct {
	options map[string]string
	words   []string // of these in this order, the last one any number of times
}{
	"image import": {options: map[string]string{"--alias": incusName + "-import"}, words: []string{`.*/metadata\.tar\.gz`, `\./erp-disk-0\.qcow2`}},
	"image delete": {words: []string{incusName + "-import"}},
	"init": {
		options: map[string]string{
			"--vm": "", "--no-profiles": "", "--empty": "", "--storage": "default",
			"-d": `root,(size=[1-9]\d*MiB|io\.bus=(nvme|virtio-blk))`,
			"-c": `(?s)limits\.cpu=[1-9]\d*|limits\.memory=[1-9]\d*MiB|security\.(secureboot|csm)=(true|false)|user\.vsphere-name=[^\n]*`,
		},
		words: []string{incusName + "(-import)?", incusName},
	},
	"config device add": {words: []string{
		incusName, `disk-[1-9]\d*|eth\d+|tpm`, `disk|nic|tpm`,
		`pool=default|source=` + incusName + `-disk-\d+|io\.bus=(nvme|virtio-blk)|(?s:network=.+)|nictype=bridged|parent=[^ ]+|hwaddr=([0-9a-f]{2}:){5}[0-9a-f]{2}`,
	}},
	"storage volume show": {words: []string{"default", incusName + `-disk-\d+`}},
	"storage show":        {words: []string{"default"}},
	"network show":        {words: []string{`(?s:.+)`}},
	"list":                {options: map[string]string{"--format": "csv", "--columns": "n"}},
}

// incusName is a name of an instance, which begins with a letter.
const incusName = `[a-z]([-a-z0-9]{0,61}[a-z0-9])?`

func TestTheScriptForIncusCallsTheClientAsItsManualSays(t *testing.T) {
	t.Parallel()
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, notes := write(t, kit.Incus, m)
			count := map[string]int{}
			for _, call := range run(t, path, nil, "incus") {
				command := ""
				for c, grammar := range incusGrammar {
					words := append([]string{"incus"}, strings.Fields(c)...)
					if len(call) < len(words) || !slices.Equal(call[:len(words)], words) {
						continue
					}
					command = c
					if problem := misspelled(grammar.options, grammar.words, call[len(words):]); problem != "" {
						t.Errorf("incus %s takes no %q: %q", c, problem, call)
					}
				}
				if command == "" {
					t.Fatalf("a call is %q", call)
				}
				count[command]++
			}
			disks, further := len(m.Images), max(0, len(m.Images)-1)
			if count["init"] != 1 || count["image import"] != min(1, disks) || count["image delete"] != min(1, disks) ||
				count["storage volume show"] != further || count["config device add"] != further+len(m.Guest.NICs) {
				t.Errorf("the calls are %v", count)
			}
			virtio := m.Options.Virtio || m.Options.VirtioBlk
			if !virtio && disks > 0 && !slices.ContainsFunc(notes, func(n kvm.Note) bool { return strings.Contains(n.Text, "needs the driver") }) {
				t.Errorf("nothing is said of drivers: %v", notes)
			}
		})
	}
}

// misspelled is the first word that a command does not take, or says which is missing.
func misspelled(options map[string]string, words, call []string) string {
	at := 0
	for i := 0; i < len(call); i++ {
		values, known := options[call[i]]
		switch {
		case known && values == "":
		case known && i+1 < len(call) && fits(values, call[i+1]):
			i++
		case known || strings.HasPrefix(call[i], "-") || len(words) == 0 || !fits(words[min(at, len(words)-1)], call[i]):
			return strings.Join(call[i:min(i+2, len(call))], " ")
		default:
			at++
		}
	}
	if _, empty := options["--empty"]; at < len(words)-1 && !(empty && slices.Contains(call, "--empty")) && !slices.Contains(call, "tpm") {
		return words[at] + ", which is missing"
	}
	return ""
}

func TestTheScriptForIncusKeepsWhatTheVMHad(t *testing.T) {
	t.Parallel()
	all := machines()
	eleven := all["secure boot Windows"]
	eleven.Guest.GuestID = "windows11_64Guest"
	all["Windows 11"] = eleven
	raw := all["UEFI"]
	raw.Images = slices.Clone(raw.Images)
	raw.Images[0] = kit.Image{File: "erp-disk-0.raw", Format: kvm.Raw, Capacity: 5<<20 + 512}
	all["raw"] = raw
	for name, wants := range map[string][]string{
		"PVSCSI":              {"security.csm=true", "security.secureboot=false", "limits.cpu=4", "limits.memory=2048MiB", "root,size=1025MiB", "Note: disks 0, 1: on virtio-scsi", "Note: nic 0: is on virtio: Incus has no vmxnet3", "'00:50:56:aa:bb:cc'"},
		"UEFI":                {"security.csm=false", "security.secureboot=false", "os: Linux"},
		"secure boot Windows": {"security.csm=false", "security.secureboot=true", "os: Windows", "Note: disks 0: on virtio-scsi", `"source=$NAME-disk-1" io.bus=nvme`},
		"Windows 11":          {`i config device add "$NAME" tpm tpm`},
		"converted":           {"-d root,io.bus=virtio-blk", `"source=$NAME-disk-17" io.bus=virtio-blk`},
		"hot-add":             {"limits.cpu=4"},
		"networks":            {"NETWORK0='bridge:br1'", "NETWORK1='office'", "NETWORK2='incusbr0'"},
		"raw":                 {"qemu-img convert -f raw -O qcow2 './erp-disk-0.raw'", "root,size=6MiB"},
	} {
		text, _, err := kit.Write(kit.Incus, all[name])
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %s:\n%s", name, want, text)
			}
		}
	}
}

func TestTheScriptForIncusMakesNothingBeforeAllVolumesAreThereAndLeavesNothingWhenItFails(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.Incus, machines()["PVSCSI"])
	for _, test := range []struct {
		fails, says string
		made        int
		undone      []string
	}{
		{"storage volume show", "there is no volume erp-disk-1 in the pool default: make it of " + filepath.Dir(path) + "/erp-disk-1.qcow2 with incus-migrate", 0, nil},
		{"image import", "", 1, nil},
		{"init", "", 2, []string{"image delete erp-import"}},
		{"config device add", "", 3, []string{"image delete erp-import", "delete erp"}},
		{"storage show", "does not show its storage pool default", 0, nil},
		{"list", "", 0, nil},
		{"network show incusbr0", "does not show its network incusbr0: NETWORK0 names another one", 0, nil},
	} {
		calls, temp := filepath.Join(t.TempDir(), "calls"), t.TempDir()
		cmd := exec.Command("sh", "-c", `incus() { echo "$@" >>"$CALLS"; case "$*" in "$FAILS"*) return 1 ;; esac; }; . "$0"`, path)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "CALLS=" + calls, "FAILS=" + test.fails, "TMPDIR=" + temp}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.says) {
			t.Errorf("when %s fails, it says %s, %v", test.fails, out, err)
		}
		text, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		did := func(what string) int { return strings.Count(string(text), what) }
		if got := did("image import") + did("init ") + did("config device add"); got != test.made {
			t.Errorf("when %s fails, it calls\n%s", test.fails, text)
		}
		undone := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(call string) bool { return !strings.Contains(call, "delete") })
		if !slices.Equal(undone, test.undone) {
			t.Errorf("when %s fails, it undoes with\n%s", test.fails, text)
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("when %s fails, it leaves %v, %v", test.fails, left, err)
		}
	}
}

func TestTheScriptForIncusSaysThatTheInstanceIsThereBeforeItImportsAnything(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.Incus, machines()["PVSCSI"])
	for there, fails := range map[string]bool{"erp": true, "erp2\nxerp": false} {
		cmd := exec.Command("sh", "-c", `incus() { case "$1" in list) printf "$THERE\n" ;; image) echo imported ;; esac; }; . "$0"`, path)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "THERE=" + there, "TMPDIR=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		if text := string(out); (err != nil) != fails || strings.Contains(text, "imported") == fails || strings.Contains(text, "NAME gives it another name") != fails {
			t.Errorf("with %q at Incus: %v\n%s", there, err, out)
		}
	}
}

func TestAnInstanceThatIsWholeStaysWhenTheScriptCannotSaySo(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.Incus, machines()["PVSCSI"])
	calls := filepath.Join(t.TempDir(), "calls")
	cmd := exec.Command("sh", "-c", `incus() { echo "$@" >>"$CALLS"; }; . "$0" >&-`, path)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "CALLS=" + calls, "TMPDIR=" + t.TempDir()}
	_ = cmd.Run()
	text, err := os.ReadFile(calls)
	if err != nil || !strings.Contains(string(text), "config device add erp eth0") || strings.Contains(string(text), "\ndelete erp") {
		t.Errorf("the calls are %v\n%s", err, text)
	}
}

func TestTheScriptForIncusLeavesNothingWhenItIsEnded(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.Incus, machines()["PVSCSI"])
	for _, signal := range []string{"HUP", "INT", "TERM"} {
		calls, temp := filepath.Join(t.TempDir(), "calls"), t.TempDir()
		cmd := exec.Command("env", "--default-signal=HUP,INT,TERM", "sh", "-c", `incus() { echo "$@" >>"$CALLS"; case "$*" in *eth0*) kill -"$SIGNAL" $$ ;; esac; }; . "$0"`, path)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "CALLS=" + calls, "SIGNAL=" + signal, "TMPDIR=" + temp}
		out, failed := cmd.CombinedOutput()
		text, err := os.ReadFile(calls)
		if err != nil || failed == nil || !strings.HasSuffix(string(text), "image delete erp-import\ndelete erp\n") {
			t.Errorf("at %s: %v, %v\n%s\n%s", signal, failed, err, out, text)
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("at %s it leaves %v, %v", signal, left, err)
		}
	}
}
