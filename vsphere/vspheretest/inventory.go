package vspheretest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

const (
	datacenter = "DC0"
	datastores = 3
)

// inventory builds the virtual machines of a lab in the simulator's registry.
// It works before the server listens, so that nothing else touches the objects.
type inventory struct {
	srv    *Server
	ctx    *simulator.Context
	dc     *simulator.Datacenter
	pool   types.ManagedObjectReference
	hosts  []types.ManagedObjectReference
	stores []*simulator.Datastore
	net    types.BaseVirtualDeviceBackingInfo
	dirs   map[string]int // datastore directories in use
}

func newInventory(s *Server) (*inventory, error) {
	in := &inventory{srv: s, ctx: s.simContext(), dirs: make(map[string]int)}
	reg := in.ctx.Map
	in.dc = reg.Any("Datacenter").(*simulator.Datacenter)
	cluster := reg.Any("ClusterComputeResource").(*simulator.ClusterComputeResource)
	in.pool, in.hosts = *cluster.ResourcePool, cluster.Host
	for i, ref := range in.hosts {
		s.hosts[i].introduce(reg.Get(ref).(*simulator.HostSystem))
	}
	for i := range datastores {
		ds, ok := reg.FindByName(fmt.Sprintf("LocalDS_%d", i), in.dc.Datastore).(*simulator.Datastore)
		if !ok {
			return nil, fmt.Errorf("the simulator made no datastore %d", i)
		}
		ds.Summary.Capacity, ds.Summary.FreeSpace = 1<<50, 1<<49
		in.stores = append(in.stores, ds)
	}
	pg, ok := reg.FindByName(distributed, in.dc.Network).(*simulator.DistributedVirtualPortgroup)
	if !ok {
		return nil, errors.New("the simulator made no port group")
	}
	dvs := reg.Get(*pg.Config.DistributedVirtualSwitch).(*simulator.DistributedVirtualSwitch)
	in.net = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
		Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: pg.Key, SwitchUuid: dvs.Uuid},
	}
	return in, nil
}

// storeTypes are the types of datastores, as reports name them.
var storeTypes = map[findings.Answer]types.HostFileSystemVolumeFileSystemType{
	"vmfs": types.HostFileSystemVolumeFileSystemTypeVMFS, "nfs": types.HostFileSystemVolumeFileSystemTypeNFS,
	"nfs41": types.HostFileSystemVolumeFileSystemTypeNFS41, "vsan": types.HostFileSystemVolumeFileSystemTypeVsan,
	"vvol": types.HostFileSystemVolumeFileSystemTypeVVOL,
}

// finish gives the datastores the type that goes with the profile. On a vSAN
// one the simulator translates every path, which creating VMs does not survive.
func (in *inventory) finish() {
	kind, known := storeTypes[in.srv.like.VM.Datastore]
	if !known {
		return
	}
	for _, ds := range in.stores {
		ds.Summary.Type = string(kind)
	}
}

// folder returns the VM folder at p below the datacenter's, making what is missing.
func (in *inventory) folder(p string) (*simulator.Folder, error) {
	f := in.ctx.Map.Get(in.dc.VmFolder).(*simulator.Folder)
	for name := range strings.SplitSeq(p, "/") {
		if name == "" {
			continue
		}
		if child, ok := in.ctx.Map.FindByName(escapeName(name), f.ChildEntity).(*simulator.Folder); ok {
			f = child
			continue
		}
		body := f.CreateFolder(in.ctx, &types.CreateFolder{This: f.Self, Name: name}).(*methods.CreateFolderBody)
		if body.Fault() != nil {
			return nil, fmt.Errorf("create folder %q: %s", p, body.Fault().String)
		}
		f = in.ctx.Map.Get(body.Res.Returnval).(*simulator.Folder)
	}
	return f, nil
}

// add creates g's VM, with its disks already prepared.
func (in *inventory) add(g *guest) error {
	folder, err := in.folder(g.vm.Folder)
	if err != nil {
		return err
	}
	store := in.stores[0]
	g.dir = g.escaped
	if n := in.dirs[g.dir]; n > 0 {
		g.dir = fmt.Sprintf("%s_%d", g.dir, n)
	}
	in.dirs[g.escaped]++
	base := path.Join(g.dir, g.escaped)
	b := &board{slots: make(map[Controller]*slot), datapath: fmt.Sprintf("[%s] %s", store.Name, base)}
	for _, d := range g.disks {
		if err := b.addDisk(d); err != nil {
			return err
		}
		d.flat = strings.TrimSuffix(path.Join(g.dir, diskFile(g, d)), ".vmdk") + "-flat.vmdk"
	}
	if g.vm.ISO != nil {
		g.isoKey = b.addCD(store.Self, fmt.Sprintf("[%s] iso/%s.iso", store.Name, g.escaped), !g.vm.CDDisconnect)
	}
	for i, n := range g.vm.NICs {
		backing, err := in.network(n.Network)
		if err == nil {
			err = b.addNIC(int32(i), n, backing)
		}
		if err != nil {
			return fmt.Errorf("NIC %d: %w", i, err)
		}
	}
	ref, err := in.create(folder, g, b, fmt.Sprintf("[%s] %s.vmx", store.Name, base))
	if err != nil {
		return err
	}
	vm := in.ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if err := in.linkData(g, vm, store); err != nil {
		return err
	}
	in.patch(g, vm)
	in.attach(vm)
	g.ref, g.path = ref, in.path(ref)
	return in.settle(g, vm)
}

func diskFile(g *guest, d *disk) string {
	if d.index == 0 {
		return g.escaped + ".vmdk"
	}
	return fmt.Sprintf("%s_%d.vmdk", g.escaped, d.index)
}

func (in *inventory) create(f *simulator.Folder, g *guest, b *board, vmx string) (types.ManagedObjectReference, error) {
	firmware := types.GuestOsDescriptorFirmwareTypeBios
	if g.vm.EFI {
		firmware = types.GuestOsDescriptorFirmwareTypeEfi
	}
	host := in.hosts[g.vm.Host]
	body := f.CreateVMTask(in.ctx, &types.CreateVM_Task{
		This: f.Self,
		Config: types.VirtualMachineConfigSpec{
			Name:                  "new", // see patch
			GuestId:               cmp.Or(g.vm.GuestID, string(types.VirtualMachineGuestOsIdentifierOtherGuest64)),
			Annotation:            g.vm.Annotation,
			Files:                 &types.VirtualMachineFileInfo{VmPathName: vmx},
			NumCPUs:               cmp.Or(g.vm.CPUs, 1),
			NumCoresPerSocket:     types.NewInt32(cmp.Or(g.vm.CoresPerSocket, 1)),
			MemoryMB:              cmp.Or(g.vm.MemoryMiB, 1024),
			CpuHotAddEnabled:      types.NewBool(g.vm.CPUHotAdd),
			MemoryHotAddEnabled:   types.NewBool(g.vm.MemoryHotAdd),
			Firmware:              string(firmware),
			BootOptions:           &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(g.vm.SecureBoot)},
			ChangeTrackingEnabled: types.NewBool(g.vm.CBT),
			DeviceChange:          b.changes(),
		},
		Pool: in.pool,
		Host: &host,
	}).(*methods.CreateVM_TaskBody)
	if body.Fault() != nil {
		return types.ManagedObjectReference{}, fmt.Errorf("create VM: %s", body.Fault().String)
	}
	result, err := in.wait(body.Res.Returnval)
	if err != nil {
		return types.ManagedObjectReference{}, fmt.Errorf("create VM: %w", err)
	}
	return result.(types.ManagedObjectReference), nil
}

// wait blocks until a task is done and returns its result.
func (in *inventory) wait(ref types.ManagedObjectReference) (types.AnyType, error) {
	task := in.ctx.Map.Get(ref).(*simulator.Task)
	task.Wait()
	if e := task.Info.Error; e != nil {
		return nil, fmt.Errorf("task %s: %T %s", task.Info.Name, e.Fault, e.LocalizedMessage)
	}
	return task.Info.Result, nil
}

// linkData puts the raw disks where the datastore's /folder finds them.
func (in *inventory) linkData(g *guest, vm *simulator.VirtualMachine, store *simulator.Datastore) error {
	if in.srv.like.VM.Datastore == "vsan" {
		return nil // objects, not files (F-DS-3)
	}
	for _, d := range g.disks {
		flat := filepath.Join(store.Summary.Url, filepath.FromSlash(d.flat))
		if err := os.Remove(flat); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		raw := d.now().raw
		if raw == nil {
			continue
		}
		if err := os.Symlink(raw.path, flat); err != nil {
			return err
		}
	}
	vm.RefreshStorageInfo(in.ctx, nil)
	return nil
}

// patch sets what the simulator's API has no way to create. The name is among
// it: CreateVM would escape it, and then add every device twice.
func (in *inventory) patch(g *guest, vm *simulator.VirtualMachine) {
	vm.Name, vm.Config.Name, vm.Summary.Config.Name = g.escaped, g.escaped, g.escaped
	key := &types.CryptoKeyId{KeyId: "lab-key", ProviderId: &types.KeyProviderId{Id: "lab-kms"}}
	if g.vm.Encrypted {
		vm.Config.KeyId = key
	}
	if g.vm.FaultTolerant {
		vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateEnabled
		vm.Summary.Runtime.FaultToleranceState = vm.Runtime.FaultToleranceState
		vm.Config.FtInfo = &types.FaultToleranceConfigInfo{Role: 1, InstanceUuids: []string{vm.Config.InstanceUuid}}
	}
	if g.vm.VTPM {
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualTPM{
			VirtualDevice: types.VirtualDevice{
				Key: keyTPM, DeviceInfo: &types.Description{Label: "Virtual TPM", Summary: "Virtual TPM"},
			},
		})
		vm.Config.KeyId = key // a vTPM encrypts the VM's home files (F-NFC-15)
	}
	if g.vm.MemoryHotAdd && g.vm.PoweredOn {
		vm.Config.HotPlugMemoryLimit = 16 * int64(vm.Config.Hardware.MemoryMB)
		vm.Config.HotPlugMemoryIncrementSize = 128
	}
	vm.DisabledMethod = g.vm.DisabledMethods
	vm.Summary.Storage = &types.VirtualMachineStorageSummary{}
	for _, d := range g.disks { // the simulator sees the sizes of empty files
		data := d.now()
		used := data.populated
		if used == 0 && data.stream != nil {
			used = data.stream.size
		}
		vm.Summary.Storage.Committed += used
		vm.Summary.Storage.Uncommitted += d.capacity - min(used, d.capacity)
	}
	for _, dev := range vm.Config.Hardware.Device {
		if vd, ok := dev.(*types.VirtualDisk); ok {
			patchDisk(g, vd)
		}
	}
}

func patchDisk(g *guest, vd *types.VirtualDisk) {
	flat, ok := vd.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok {
		return
	}
	if g.vm.CBT {
		flat.ChangeId = fmt.Sprintf("52 lab %s %d/1", g.escaped, vd.Key)
	}
	for _, d := range g.disks {
		if d.key != vd.Key {
			continue
		}
		vd.CapacityInBytes, vd.CapacityInKB = d.capacity, d.capacity/1024
		if d.spec.RDM == NotRDM {
			continue
		}
		mode := types.VirtualDiskCompatibilityModeVirtualMode
		if d.spec.RDM == RDMPhysical {
			mode = types.VirtualDiskCompatibilityModePhysicalMode
		}
		vd.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: flat.VirtualDeviceFileBackingInfo,
			LunUuid:                      "0200000000600508b4000b1c2d",
			DeviceName:                   "vml.0200000000600508b4000b1c2d",
			CompatibilityMode:            string(mode),
			DiskMode:                     flat.DiskMode,
			Uuid:                         flat.Uuid,
			ChangeId:                     flat.ChangeId,
		}
	}
}

// settle takes the snapshots and powers the VM on, in that order.
func (in *inventory) settle(g *guest, vm *simulator.VirtualMachine) error {
	for n, name := range g.vm.Snapshots {
		body := vm.CreateSnapshotTask(in.ctx, &types.CreateSnapshot_Task{This: vm.Self, Name: name}).(*methods.CreateSnapshot_TaskBody)
		if _, err := in.wait(body.Res.Returnval); err != nil {
			return fmt.Errorf("snapshot %q: %w", name, err)
		}
		vm.Config.Hardware.Device = withDeltas(vm.Config.Hardware.Device, n+1)
	}
	if !g.vm.PoweredOn {
		return nil
	}
	body := vm.PowerOnVMTask(in.ctx, &types.PowerOnVM_Task{This: vm.Self}).(*methods.PowerOnVM_TaskBody)
	_, err := in.wait(body.Res.Returnval)
	return err
}

// withDeltas returns the devices of a VM after its n-th snapshot: the disks that it
// holds have another link on top. The snapshot's own devices stay as they are.
func withDeltas(devices []types.BaseVirtualDevice, n int) []types.BaseVirtualDevice {
	out := slices.Clone(devices)
	for i, dev := range out {
		vd, ok := dev.(*types.VirtualDisk)
		if !ok {
			continue
		}
		below, ok := vd.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || strings.HasPrefix(below.DiskMode, "independent") {
			continue
		}
		child, top := *vd, *below
		top.FileName = strings.TrimSuffix(base(below.FileName), ".vmdk") + fmt.Sprintf("-%06d.vmdk", n)
		top.Parent = below
		child.Backing = &top
		out[i] = &child
	}
	return out
}

// deltaName ends the name of a link that a snapshot has put on top of a disk.
var deltaName = regexp.MustCompile(`-[0-9]{6}\.vmdk$`)

// base is the file of the lowest link of the chain that file is a link of.
func base(file string) string { return deltaName.ReplaceAllString(file, ".vmdk") }

// path returns an object's inventory path, as govc find prints it.
func (in *inventory) path(ref types.ManagedObjectReference) string {
	var parts []string
	for {
		e, ok := in.ctx.Map.Get(ref).(mo.Entity)
		if !ok || e.Entity().Parent == nil {
			return "/" + strings.Join(parts, "/")
		}
		parts = append([]string{e.Entity().Name}, parts...)
		ref = *e.Entity().Parent
	}
}
