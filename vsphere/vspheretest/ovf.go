package vspheretest

import (
	"encoding/xml"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const formatStream = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

// CreateDescriptor writes an OVF 1.1 descriptor of a VM (DSP0243) for the files
// that the client says it wrote. Without files it has placeholders of size 0
// in their place (F-NFC-16). A disk that is not among the files is left out.
func (g *gateway) CreateDescriptor(ctx *simulator.Context, req *types.CreateDescriptor) soap.HasFault {
	body := new(methods.CreateDescriptorBody)
	guest := g.srv.guest(req.Obj)
	vm, ok := ctx.Map.Get(req.Obj).(*simulator.VirtualMachine)
	if guest == nil || !ok {
		body.Fault_ = simulator.Fault("There is no such virtual machine.", &types.ManagedObjectNotFound{Obj: req.Obj})
		return body
	}
	b := &ovfBuilder{guest: guest, params: req.Cdp, items: g.srv.leaseItems(guest, req.Cdp.Snapshot != nil)}
	ctx.WithLock(vm, func() { b.build(vm) })
	if b.err != nil {
		body.Fault_ = simulator.Fault(b.err.Error(), &types.InvalidArgument{InvalidProperty: "cdp.ovfFiles"})
		return body
	}
	text, err := xml.MarshalIndent(&b.envelope, "", "  ")
	if err != nil {
		body.Fault_ = simulator.Fault(err.Error(), &types.SystemError{Reason: err.Error()})
		return body
	}
	body.Res = &types.CreateDescriptorResponse{Returnval: types.OvfCreateDescriptorResult{
		OvfDescriptor:     xml.Header + string(text) + "\n",
		IncludeImageFiles: req.Cdp.IncludeImageFiles,
	}}
	return body
}

// ovfBuilder turns a VM into an envelope.
type ovfBuilder struct {
	guest    *guest
	params   types.OvfCreateDescriptorParams
	items    []*item
	envelope ovfEnvelope
	fileIDs  map[string]string // lease key to file id
	instance int
	err      error
}

func (b *ovfBuilder) build(vm *simulator.VirtualMachine) {
	b.envelope = ovfEnvelope{
		Build: "build-0", NS: nsOVF, Cim: nsCIM, OVF: nsOVF, Rasd: nsRASD, Vmw: nsVMW, Vssd: nsVSSD, Xsi: nsXSI,
	}
	b.references()
	b.disks()
	b.system(vm)
}

// files returns what the client wrote, or placeholders.
func (b *ovfBuilder) files() []types.OvfFile {
	if len(b.params.OvfFiles) > 0 {
		return b.params.OvfFiles
	}
	var files []types.OvfFile
	for _, it := range b.items {
		if it.disk != nil {
			files = append(files, types.OvfFile{DeviceId: it.key, Path: it.file})
		}
	}
	return files
}

func (b *ovfBuilder) references() {
	b.fileIDs = make(map[string]string)
	for i, f := range b.files() {
		if b.item(f.DeviceId) == nil {
			b.err = fmt.Errorf("the virtual machine has no device %q", f.DeviceId)
			return
		}
		id := fmt.Sprintf("file%d", i+1)
		b.fileIDs[f.DeviceId] = id
		b.envelope.References = append(b.envelope.References, ovfFile{
			Href: f.Path, ID: id, Size: f.Size, Compression: f.CompressionMethod, ChunkSize: f.ChunkSize,
		})
	}
}

func (b *ovfBuilder) item(key string) *item {
	i := slices.IndexFunc(b.items, func(it *item) bool { return it.key == key })
	if i < 0 {
		return nil
	}
	return b.items[i]
}

func (b *ovfBuilder) disks() {
	b.envelope.Disks.Info = "Virtual disk information"
	for _, it := range b.items {
		if it.disk == nil || b.fileIDs[it.key] == "" {
			continue
		}
		b.envelope.Disks.Disks = append(b.envelope.Disks.Disks, ovfDisk{
			Capacity: it.disk.capacity, Units: "byte", ID: diskID(it.disk), FileRef: b.fileIDs[it.key],
			Format: formatStream, Populated: it.populated,
		})
	}
}

func diskID(d *disk) string { return fmt.Sprintf("vmdisk%d", d.index+1) }

func (b *ovfBuilder) system(vm *simulator.VirtualMachine) {
	name := b.params.Name
	if name == "" {
		name = vm.Name
	}
	sys := &b.envelope.System
	sys.ID, sys.Info, sys.Name = name, "A virtual machine", name
	sys.OS = ovfOS{
		ID: osID(vm.Config.GuestId), Type: "*" + vm.Config.GuestId,
		Info: "The kind of installed guest operating system", Description: vm.Config.GuestFullName,
	}
	if b.params.Description != "" || vm.Config.Annotation != "" {
		sys.Annotation = &ovfAnnotation{Info: "A human-readable annotation", Text: b.params.Description}
		if sys.Annotation.Text == "" {
			sys.Annotation.Text = vm.Config.Annotation
		}
	}
	hw := &sys.Hardware
	hw.Info = "Virtual hardware requirements"
	hw.System = ovfSystem{
		ElementName: "Virtual Hardware Family", Identifier: path.Base(name), Type: vm.Config.Version,
	}
	b.hardware(vm, hw)
	b.config(vm, hw)
}

// config adds firmware, secure boot, hot-add and the nvram file, in VMware's own terms.
func (b *ovfBuilder) config(vm *simulator.VirtualMachine, hw *ovfHardware) {
	hw.Config = append(hw.Config, ovfConfig{Required: "false", Key: "firmware", Value: vm.Config.Firmware})
	on := func(key string, is *bool) {
		if is != nil && *is {
			hw.Config = append(hw.Config, ovfConfig{Required: "false", Key: key, Value: "true"})
		}
	}
	on("cpuHotAddEnabled", vm.Config.CpuHotAddEnabled)
	on("memoryHotAddEnabled", vm.Config.MemoryHotAddEnabled)
	if o := vm.Config.BootOptions; o != nil {
		on("bootOptions.efiSecureBootEnabled", o.EfiSecureBootEnabled)
	}
	for _, it := range b.items {
		if id := b.fileIDs[it.key]; id != "" && strings.HasSuffix(it.key, "/nvram") {
			hw.ExtraConfig = append(hw.ExtraConfig, ovfConfig{Required: "false", Key: "nvram", Value: "ovf:/file/" + id})
		}
	}
}

// osID maps a guest id to the CIM operating system type (DSP0243, CIM_OperatingSystem).
func osID(guestID string) int {
	for _, os := range []struct {
		prefix string
		id     int
	}{
		{"windows2019", 112}, {"windows9Server", 112}, {"windows2022", 112}, {"windows9", 109}, {"windows11", 109},
		{"debian", 96}, {"ubuntu64", 94}, {"rhel", 80}, {"centos", 107}, {"sles", 85}, {"otherLinux64", 101}, {"other6xLinux64", 101},
	} {
		if strings.HasPrefix(guestID, os.prefix) {
			return os.id
		}
	}
	return 1 // "other"
}
