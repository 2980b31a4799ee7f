package kit_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/kit"
)

// openStackGrammar is what the commands take (python-openstackclient), as expressions
// for the values of their options; "" is an option without a value.
var openStackGrammar = map[string]map[string]string{
	"image create": {
		"--disk-format": "qcow2|raw", "--container-format": "bare", "--file": `\./[^/]+`, "-f": "value", "-c": "id",
		"--property": `hw_machine_type=(pc|q35)|hw_qemu_guest_agent=yes|hw_firmware_type=(bios|uefi)|os_secure_boot=required|hw_disk_bus=(scsi|sata|ide|virtio)|` +
			`hw_scsi_model=(virtio-scsi|lsilogic|lsisas1068|vmpvscsi)|hw_vif_model=(virtio|vmxnet3|e1000|e1000e|pcnet)|os_type=(linux|windows)|os_distro=[a-z]+`,
	},
	"volume create": {"--image": `id-\d+`, "--size": `[1-9]\d*`, "--bootable": "", "--non-bootable": "", "-f": "value", "-c": "id"},
	"volume show":   {"-f": "value", "-c": "status"},
	"port create":   {"--network": `(?s).+`, "--mac-address": `([0-9a-f]{2}:){5}[0-9a-f]{2}`, "-f": "value", "-c": "id"},
	"server create": {
		"--flavor": "m1", "--volume": `id-\d+`, "--port": `id-\d+`, "--nic": "none",
		"--block-device": `uuid=id-\d+,source_type=volume,destination_type=volume,boot_index=-1`,
	},
}

func TestTheScriptForOpenStackCallsTheClientAsItsManualSays(t *testing.T) {
	t.Parallel()
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := write(t, kit.OpenStack, m)
			env := []string{"FLAVOR=m1", "NETWORK0=net a", "NETWORK1=net b", "NETWORK2=c", "NETWORK3=d"}
			calls := run(t, path, env, "openstack")
			count := map[string]int{}
			for _, call := range calls {
				if len(call) < 4 || call[0] != "openstack" {
					t.Fatalf("a call is %q", call)
				}
				command := call[1] + " " + call[2]
				count[command]++
				if problem := misused(openStackGrammar[command], call[3:]); problem != "" {
					t.Errorf("openstack %s takes no %q: %q", command, problem, call)
				}
			}
			disks := len(m.Images)
			if count["image create"] != disks || count["volume create"] != disks || count["port create"] != len(m.Guest.NICs) || count["server create"] != 1 {
				t.Errorf("the calls are %v", count)
			}
		})
	}
}

// misused is the first word that a command does not take, beside one that is a name.
func misused(options map[string]string, words []string) string {
	names := 0
	for i := 0; i < len(words); i++ {
		values, known := options[words[i]]
		switch {
		case !strings.HasPrefix(words[i], "-") && words[i] != "":
			names++
		case !known:
			return words[i]
		case values == "":
		case i+1 == len(words) || !regexp.MustCompile(`^(`+values+`)$`).MatchString(words[i+1]):
			return strings.Join(words[i:min(i+2, len(words))], " ")
		default:
			i++
		}
	}
	if names != 1 {
		return "a name, once"
	}
	return ""
}

func TestTheScriptForOpenStackAsksForWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.OpenStack, machines()["PVSCSI"])
	out, err := exec.Command("sh", path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "openstack flavor list") {
		t.Errorf("without a flavor it says %s, %v", out, err)
	}
	// A network that the map names for the card's port group is taken.
	m := machines()["networks"]
	path, _ = write(t, kit.OpenStack, m)
	calls := run(t, path, []string{"FLAVOR=m1", "NETWORK0=a", "NETWORK2=c", "NETWORK3=d"}, "openstack")
	if !slices.ContainsFunc(calls, func(c []string) bool { return slices.Contains(c, "office") }) {
		t.Errorf("no port is on the network of the map: %q", calls)
	}
}

func TestTheScriptForOpenStackEndsWhenAVolumeFails(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.OpenStack, machines()["PVSCSI"])
	cmd := exec.Command("sh", "-c", `openstack() { case "$1 $2" in "volume show") echo error ;; *) echo id ;; esac; }; . "$0"`, path)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "FLAVOR=m1", "NETWORK0=a"}
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "has failed") {
		t.Errorf("it says %s, %v", out, err)
	}
}
