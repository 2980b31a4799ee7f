package migrate_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// tools are those of a guest with a fixed address.
func tools() *vspheretest.Guest {
	return &vspheretest.Guest{
		HostName: "web1",
		Net: []types.GuestNicInfo{{
			MacAddress: "00:50:56:aa:00:01", Network: "VM Network", Connected: true,
			IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: "192.0.2.10", PrefixLength: 24, Origin: "manual"}}},
		}},
		IPStack: []types.GuestStackInfo{{
			DnsConfig: &types.NetDnsConfigInfo{IpAddress: []string{"192.0.2.53"}},
			IpRouteConfig: &types.NetIpRouteConfigInfo{IpRoute: []types.NetIpRouteConfigInfoIpRoute{
				{Network: "0.0.0.0", Gateway: types.NetIpRouteConfigInfoGateway{IpAddress: "192.0.2.1", Device: "0"}},
			}},
		}},
	}
}

// toolsGuest is a bench whose VM runs, with Tools in its guest.
func toolsGuest(t *testing.T, g *vspheretest.Guest, faults ...string) *bench {
	t.Helper()
	return newBench(t, vspheretest.Config{
		VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true, Guest: g}}, Faults: faults,
	}, rawDisk(t, mib, extent{0, mib, false}))
}

// network reads the file beside the images; nil when there is none.
func (b *bench) network() *job.GuestNetwork {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.out, "guest1.network.json"))
	if os.IsNotExist(err) {
		return nil
	}
	n := new(job.GuestNetwork)
	if err == nil {
		err = json.Unmarshal(data, n)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func TestWhatToolsReportOfTheNetworkIsInTheResultAndBesideTheImages(t *testing.T) {
	t.Parallel()
	for _, format := range []job.Format{job.FormatOVF, job.FormatQcow2} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := toolsGuest(t, tools())
			def := b.job(format)
			def.Options.Snapshot = true
			result := b.export(def)
			n := b.network()
			if n == nil || !n.Known || n.Version != 1 || n.HostName != "web1" || len(n.Interfaces) != 1 || len(n.DNS) != 1 || n.ReportedAt.IsZero() {
				t.Fatalf("%+v", n)
			}
			i := n.Interfaces[0]
			if i.MAC != "00:50:56:aa:00:01" || len(i.Addresses) != 1 || i.Addresses[0].Address.String() != "192.0.2.10" ||
				i.Addresses[0].Prefix != 24 || len(i.Gateways) != 1 || i.Gateways[0].String() != "192.0.2.1" {
				t.Errorf("%+v", i)
			}
			if !reflect.DeepEqual(result.Network, n) || !slices.Contains(result.Files, filepath.Join(b.out, "guest1.network.json")) {
				t.Errorf("the result has %+v and %q", result.Network, result.Files)
			}
		})
	}
}

func TestWithoutToolsThereIsNoFileOfTheNetwork(t *testing.T) {
	t.Parallel()
	b := toolsGuest(t, nil)
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	if result := b.export(def); result.Network != nil || b.network() != nil {
		t.Errorf("%+v, %+v", result.Network, b.network())
	}
}

// The network of a guest that ran then is not that of the one that is exported now.
func TestTheFileOfAnEarlierExportIsReplacedByOneThatSaysThatNothingIsKnown(t *testing.T) {
	t.Parallel()
	b := toolsGuest(t, tools())
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	b.export(def)
	if err := b.PowerOff("guest1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.run(t.Context(), b.job(job.FormatRaw)); err == nil {
		t.Error("the files of an earlier export were replaced without a word")
	}
	def = b.job(job.FormatRaw)
	def.Options.Overwrite = true
	result := b.export(def)
	if n := b.network(); n == nil || n.Known || n.Version != 1 || len(n.Interfaces) != 0 || n.HostName != "" || result.Network != nil {
		t.Errorf("%+v, %+v", n, result.Network)
	}
}

func TestWhatToolsSaidStaysKnownToALaterRunThatFindsTheGuestOff(t *testing.T) {
	t.Parallel()
	b := toolsGuest(t, tools())
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	b.left(def, nothing)
	if err := b.PowerOff("guest1"); err != nil {
		t.Fatal(err)
	}
	if result := b.export(def); result.Network == nil || result.Network.HostName != "web1" {
		t.Errorf("%+v", result.Network)
	}
}
