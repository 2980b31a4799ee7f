package kit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/kit"
)

// The part of the APIs kubevirt.io/v1 and cdi.kubevirt.io/v1beta1 that manifests may
// use here, as their references have it. A field that is not in it is an error.
type (
	none     struct{}
	metadata struct {
		Name        string            `yaml:"name"`
		Annotations map[string]string `yaml:"annotations"`
		Labels      map[string]string `yaml:"labels"`
	}
	manifest struct {
		APIVersion string    `yaml:"apiVersion"`
		Kind       string    `yaml:"kind"`
		Metadata   metadata  `yaml:"metadata"`
		Spec       yaml.Node `yaml:"spec"`
	}
	dataVolumeSpec struct {
		Source struct {
			Upload *none `yaml:"upload"`
		} `yaml:"source"`
		Storage struct {
			Resources struct {
				Requests struct {
					Storage string `yaml:"storage"`
				} `yaml:"requests"`
			} `yaml:"resources"`
		} `yaml:"storage"`
	}
	machineSpec struct {
		RunStrategy string `yaml:"runStrategy"`
		Template    struct {
			Metadata metadata `yaml:"metadata"`
			Spec     struct {
				Domain   domain    `yaml:"domain"`
				Networks []network `yaml:"networks"`
				Volumes  []volume  `yaml:"volumes"`
			} `yaml:"spec"`
		} `yaml:"template"`
	}
	domain struct {
		CPU struct {
			Sockets int `yaml:"sockets"`
			Cores   int `yaml:"cores"`
			Threads int `yaml:"threads"`
			Max     int `yaml:"maxSockets"`
		} `yaml:"cpu"`
		Memory struct {
			Guest string `yaml:"guest"`
			Max   string `yaml:"maxGuest"`
		} `yaml:"memory"`
		Machine struct {
			Type string `yaml:"type"`
		} `yaml:"machine"`
		Firmware struct {
			UUID       string `yaml:"uuid"`
			Bootloader struct {
				BIOS *none `yaml:"bios"`
				EFI  *struct {
					SecureBoot *bool `yaml:"secureBoot"`
				} `yaml:"efi"`
			} `yaml:"bootloader"`
		} `yaml:"firmware"`
		Features struct {
			ACPI *none `yaml:"acpi"`
			SMM  *struct {
				Enabled bool `yaml:"enabled"`
			} `yaml:"smm"`
		} `yaml:"features"`
		Clock struct {
			UTC      *none  `yaml:"utc"`
			Timezone string `yaml:"timezone"`
		} `yaml:"clock"`
		Devices struct {
			Disks []struct {
				Name string `yaml:"name"`
				Disk struct {
					Bus string `yaml:"bus"`
				} `yaml:"disk"`
				BootOrder int `yaml:"bootOrder"`
			} `yaml:"disks"`
			Interfaces []struct {
				Name       string `yaml:"name"`
				Model      string `yaml:"model"`
				MAC        string `yaml:"macAddress"`
				Bridge     *none  `yaml:"bridge"`
				Masquerade *none  `yaml:"masquerade"`
			} `yaml:"interfaces"`
		} `yaml:"devices"`
	}
	network struct {
		Name   string `yaml:"name"`
		Pod    *none  `yaml:"pod"`
		Multus *struct {
			NetworkName string `yaml:"networkName"`
		} `yaml:"multus"`
	}
	volume struct {
		Name       string `yaml:"name"`
		DataVolume struct {
			Name string `yaml:"name"`
		} `yaml:"dataVolume"`
	}
)

// strict decodes a node and refuses fields that there are not.
func strict(t *testing.T, node *yaml.Node, to any) {
	t.Helper()
	text, err := yaml.Marshal(node)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(to); err != nil {
		t.Fatal(err)
	}
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func TestTheManifestsForKubeVirtAreOfItsAPI(t *testing.T) {
	t.Parallel()
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := write(t, kit.KubeVirt, m)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			volumes := map[string]bool{}
			d := yaml.NewDecoder(f)
			d.KnownFields(true)
			machines := 0
			for {
				var doc manifest
				if err := d.Decode(&doc); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if !dnsLabel.MatchString(doc.Metadata.Name) {
					t.Errorf("%s is called %q", doc.Kind, doc.Metadata.Name)
				}
				switch doc.APIVersion + " " + doc.Kind {
				case "cdi.kubevirt.io/v1beta1 DataVolume":
					var spec dataVolumeSpec
					strict(t, &doc.Spec, &spec)
					want := fmt.Sprintf("%dGi", len(volumes)+2) // a disk of n GiB and a sector
					if got := spec.Storage.Resources.Requests.Storage; spec.Source.Upload == nil || got != want {
						t.Errorf("a volume of %s, want %s", got, want)
					}
					volumes[doc.Metadata.Name] = true
				case "kubevirt.io/v1 VirtualMachine":
					machines++
					var spec machineSpec
					strict(t, &doc.Spec, &spec)
					checkMachine(t, m, spec, volumes)
				default:
					t.Errorf("a %s of %s", doc.Kind, doc.APIVersion)
				}
			}
			if machines != 1 || len(volumes) != len(m.Images) {
				t.Errorf("%d VMs and %d volumes", machines, len(volumes))
			}
		})
	}
}

func checkMachine(t *testing.T, m kit.Machine, spec machineSpec, volumes map[string]bool) {
	t.Helper()
	s := spec.Template.Spec
	d := s.Domain
	if spec.RunStrategy != "Halted" || d.Memory.Guest != "2048Mi" || d.CPU.Sockets*d.CPU.Cores*d.CPU.Threads != 4 || d.Machine.Type != "q35" {
		t.Errorf("%+v", d)
	}
	sockets, memory := 0, ""
	if m.Guest.CPUHotAdd {
		sockets, memory = 8, "8192Mi"
	}
	if d.CPU.Max != sockets || d.Memory.Max != memory {
		t.Errorf("%d sockets at most, and %q of memory", d.CPU.Max, d.Memory.Max)
	}
	efi := m.Guest.Firmware == "efi"
	if b := d.Firmware.Bootloader; (b.EFI != nil) != efi || (b.BIOS != nil) == efi || efi && *b.EFI.SecureBoot != m.Guest.SecureBoot {
		t.Errorf("the boot loader is %+v", b)
	}
	if m.Guest.SecureBoot && (d.Features.SMM == nil || !d.Features.SMM.Enabled) {
		t.Error("secure boot without SMM")
	}
	if len(d.Devices.Disks) != len(m.Images) || len(s.Volumes) != len(m.Images) {
		t.Fatalf("%d disks and %d volumes", len(d.Devices.Disks), len(s.Volumes))
	}
	for i, disk := range d.Devices.Disks {
		if disk.Name != s.Volumes[i].Name || !volumes[s.Volumes[i].DataVolume.Name] || disk.BootOrder != i+1 || !slices.Contains([]string{"sata", "scsi", "virtio"}, disk.Disk.Bus) {
			t.Errorf("disk %d is %+v of %+v", i, disk, s.Volumes[i])
		}
	}
	pods := 0
	for i, n := range d.Devices.Interfaces {
		where := s.Networks[i]
		if n.Name != where.Name || (n.Bridge != nil) != (where.Multus != nil) || (n.Masquerade != nil) != (where.Pod != nil) || (where.Pod != nil) == (where.Multus != nil) {
			t.Errorf("card %d is %+v on %+v", i, n, where)
		}
		if where.Multus != nil && !dnsLabel.MatchString(where.Multus.NetworkName) {
			t.Errorf("card %d is on %q", i, where.Multus.NetworkName)
		}
		if where.Pod != nil {
			pods++
		}
		if !regexp.MustCompile(`^(virtio|e1000|e1000e|pcnet)$`).MatchString(n.Model) {
			t.Errorf("card %d is a %s", i, n.Model)
		}
	}
	if len(d.Devices.Interfaces) != len(m.Guest.NICs) || pods > 1 {
		t.Errorf("%d cards, %d of them on the pod's network", len(d.Devices.Interfaces), pods)
	}
}

func TestAtKubeVirtMemoryCanOnlyBeAddedWhereItTakesABound(t *testing.T) {
	t.Parallel()
	for mib, want := range map[int64]string{1024: "maxGuest: 4096Mi", 1023: "Note: memory", 512: "Note: memory", 1025: "Note: memory"} {
		m := machines()["hot-add"]
		m.Guest.MemoryMiB = mib
		text, notes, err := kit.Write(kit.KubeVirt, m)
		if err != nil || !bytes.Contains(text, []byte(want)) || bytes.Contains(text, []byte("maxGuest")) != (mib == 1024) {
			t.Errorf("%d MiB: %v, %v\n%s", mib, err, notes, text)
		}
	}
}
