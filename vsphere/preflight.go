package vsphere

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// examined are the properties that the checks look at.
var examined = []string{
	"config.template", "config.keyId", "config.ftInfo", "config.hardware", "config.changeTrackingEnabled",
	"runtime", "disabledMethod", "recentTask", "snapshot", "guest.toolsRunningStatus", "guest.toolsVersionStatus2",
}

// examination is one preflight check at work: the facts, and what was found so far.
type examination struct {
	vm     mo.VirtualMachine
	on     bool // powered on or suspended when it is exported
	stops  bool // powered on, and shut down or powered off first
	bySnap bool // exported by a temporary snapshot
	opts   PreflightOptions

	attribute  bool // vCenter has the custom attribute that marks VMs
	rootFolder types.ManagedObjectReference

	found []Obstacle
}

func (x *examination) fail(code, text, hint string) {
	x.found = append(x.found, Obstacle{Code: code, Severity: SeverityError, Text: text, Hint: hint})
}

func (x *examination) warn(code, text, hint string) {
	x.found = append(x.found, Obstacle{Code: code, Severity: SeverityWarning, Text: text, Hint: hint})
}

// Preflight looks for every reason why the VM cannot be exported as opts say,
// and returns them all, errors first (F-INV-3). Free space where the export
// goes is not its business. The VM's state is read afresh.
//
// The returned error says that the check itself failed.
func (c *Client) Preflight(ctx context.Context, vm VM, opts PreflightOptions) ([]Obstacle, error) {
	const op = "check"
	x := &examination{opts: opts}
	if err := c.properties(ctx, vmRef(vm.Ref), examined, &x.vm); err != nil {
		return nil, translate(op, vm.Path, err)
	}
	x.look(vm)
	if err := c.lookAtMarks(ctx, x); err != nil {
		return nil, translate(op, vm.Path, err)
	}
	for _, check := range []func(context.Context, *examination, VM) error{c.checkTasks, c.checkPrivileges, c.checkHost} {
		if err := check(ctx, x, vm); err != nil {
			return nil, translate(op, vm.Path, err)
		}
	}
	return x.sorted(), nil
}

// lookAtMarks looks whether a VM can be marked.
func (c *Client) lookAtMarks(ctx context.Context, x *examination) error {
	content := c.session.vim.ServiceContent
	x.rootFolder = content.RootFolder
	if x.opts.Mark.Attribute == "" {
		return nil
	}
	if content.CustomFieldsManager == nil {
		x.fail(CodeMark, "an ESXi host has no custom attributes, so that the VM cannot be marked by one", "connect to its vCenter, or mark it otherwise (-finish rename,disconnect)")
		x.opts.Mark.Attribute = ""
		return nil
	}
	key, err := c.attributeKey(ctx)
	x.attribute = key != noField
	return err
}

// look looks at everything that is known of the VM itself.
func (x *examination) look(vm VM) {
	x.on = x.vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff
	x.stops = x.vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn && (x.opts.Shutdown || x.opts.PowerOff)
	x.on = x.on && !x.stops
	x.bySnap = x.on && x.opts.Snapshot
	x.checkState()
	x.checkTools()
	x.checkStrays(vm)
	if x.vm.Config != nil {
		devices := x.vm.Config.Hardware.Device
		x.checkSecurity(devices)
		x.checkDisks(disksOf(devices))
		x.checkImages(devices)
	}
}

// sorted is what was found, errors first.
func (x *examination) sorted() []Obstacle {
	slices.SortStableFunc(x.found, func(a, b Obstacle) int { return strings.Compare(string(a.Severity), string(b.Severity)) })
	return x.found
}

// checkState looks at power, accessibility and what vSphere forbids.
func (x *examination) checkState() {
	rt := x.vm.Runtime
	if s := rt.ConnectionState; s != "" && s != types.VirtualMachineConnectionStateConnected {
		x.fail(CodeInaccessible, fmt.Sprintf("the VM is %s", s), "make its host and datastore available in vCenter first")
	} else if x.vm.Config == nil {
		x.fail(CodeInaccessible, "the VM's configuration cannot be read", "check its host and datastore, and this user's rights to see it")
	}
	if x.on && !x.opts.Snapshot {
		state := "powered on"
		if rt.PowerState == types.VirtualMachinePowerStateSuspended {
			state = "suspended"
		}
		x.fail(CodePower, "the VM is "+state, "shut it down (-shutdown does), or export it from a temporary snapshot (-snapshot)")
	}
	if rt.Question != nil {
		x.fail(CodeQuestion, "the VM waits for an answer: "+oneLine(rt.Question.Text), "answer it in vCenter")
	}
	if c := x.vm.Config; c != nil && c.Template {
		x.warn(CodeTemplate, "it is a template, not a VM", "convert it to a VM if the export is refused")
	}
	if s := rt.FaultToleranceState; s != "" && s != types.VirtualMachineFaultToleranceStateNotConfigured ||
		x.vm.Config != nil && x.vm.Config.FtInfo != nil {
		x.fail(CodeFT, "fault tolerance is configured", "turn fault tolerance off for this VM")
	}
	for _, method := range x.needed() {
		if slices.Contains(x.vm.DisabledMethod, method) {
			x.fail(CodeDisabled, "vSphere has disabled "+method+" for this VM", "see in vCenter which product or running task manages the VM (backup, replication, another export)")
		}
	}
}

// checkStrays looks for temporary snapshots that nobody here looks after. They
// grow, and slow the VM down, until somebody removes them.
func (x *examination) checkStrays(vm VM) {
	for _, s := range temporary(&x.vm, SnapshotPrefix) {
		if slices.Contains(x.opts.Known, s.Name) {
			continue
		}
		x.warn(CodeStray, fmt.Sprintf("the VM has the snapshot %s of %s, made for an export that does not run here", s.Name, s.Created.Local().Format(time.DateTime)),
			"if no other machine exports this VM now, remove it: hyper2kvm clean -vm '"+vm.Path+"' -snapshots")
	}
}

// needed are the methods that the export will call. That ExportVm is disabled
// on a running VM is no news.
func (x *examination) needed() []string {
	switch {
	case x.bySnap:
		return []string{"CreateSnapshot_Task"}
	case x.on:
		return nil
	case x.stops && x.opts.Shutdown && !x.opts.PowerOff:
		return []string{"ShutdownGuest"}
	case x.stops:
		return []string{"PowerOffVM_Task"}
	}
	return []string{"ExportVm"}
}

// checkTools looks whether a guest that is to be shut down has VMware Tools running.
func (x *examination) checkTools() {
	if !x.stops || !x.opts.Shutdown || toolsRun(x.vm.Guest) {
		return
	}
	text := "VMware Tools do not run in the guest, so that it cannot be asked to shut down"
	if g := x.vm.Guest; g != nil && g.ToolsVersionStatus2 == string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled) {
		text = "VMware Tools are not installed in the guest, so that it cannot be asked to shut down"
	}
	if x.opts.PowerOff {
		x.warn(CodeTools, text+": the VM will be powered off as it runs", "shut it down from within if its data are not to be as after a power cut")
		return
	}
	x.fail(CodeTools, text, "start VMware Tools, shut the guest down from within, or have the VM powered off as it runs (-power-off)")
}

// checkSecurity looks for a virtual TPM (F-NFC-15) and for encryption.
func (x *examination) checkSecurity(devices []types.BaseVirtualDevice) {
	tpm := slices.ContainsFunc(devices, func(d types.BaseVirtualDevice) bool {
		_, is := d.(*types.VirtualTPM)
		return is
	})
	if tpm {
		x.fail(CodeVTPM, "the VM has a virtual TPM, with which vSphere refuses to export it",
			"remove the TPM (suspend BitLocker or the like in the guest first), or export a clone without it")
	}
	disks := slices.ContainsFunc(disksOf(devices), func(d Disk) bool { return d.Encrypted })
	switch {
	case disks || x.vm.Config.KeyId != nil && !tpm:
		x.fail(CodeEncrypted, "the VM is encrypted", "decrypt it by changing its storage policy, or export a decrypted clone")
	case x.vm.Config.KeyId != nil: // a virtual TPM encrypts the home files, not the disks
		x.warn(CodeEncrypted, "the VM's home files are encrypted", "decrypt them by changing the storage policy once the TPM is gone")
	}
}

// checkDisks looks for disks that cannot be exported in this way.
func (x *examination) checkDisks(disks []Disk) {
	reachable := 0
	for _, d := range disks {
		inSnapshot := !d.Independent() && d.RDM != string(types.VirtualDiskCompatibilityModePhysicalMode)
		if inSnapshot || !x.bySnap {
			reachable++
		}
		x.checkDisk(d)
	}
	switch {
	case len(disks) == 0:
		x.fail(CodeNoDisks, "the VM has no disks", "there is nothing to export")
	case reachable == 0:
		x.fail(CodeNoDisks, "a snapshot includes none of the VM's disks", "shut the VM down and export it without a snapshot")
	}
}

func (x *examination) checkDisk(d Disk) {
	name := d.Label
	if name == "" {
		name = "disk " + strconv.Itoa(int(d.Key))
	}
	switch {
	case d.RDM == string(types.VirtualDiskCompatibilityModePhysicalMode):
		x.fail(CodeRDM, name+" is a raw device mapping in physical mode", "attach the LUN to the new host, or migrate the disk to a datastore first")
	case d.RDM != "":
		x.warn(CodeRDM, name+" is a raw device mapping in virtual mode", "all of the LUN is copied, if the host allows it")
	}
	switch {
	case d.Independent() && x.bySnap:
		x.fail(CodeIndependent, name+" is independent ("+d.Mode+"), so no snapshot includes it", "shut the VM down and export it without a snapshot, or make the disk dependent")
	case d.Independent() && x.on:
		x.warn(CodeIndependent, name+" is independent ("+d.Mode+"), so no snapshot includes it", "shut the VM down rather than use a snapshot")
	}
	switch {
	case d.Shared && x.bySnap:
		x.fail(CodeShared, name+" is shared with other VMs, which rules snapshots out", "shut down all VMs that use the disk and export without a snapshot")
	case d.Shared:
		x.warn(CodeShared, name+" is shared with other VMs", "make sure that none of them runs while it is exported")
	}
}

// checkImages looks for images and connections in CD and floppy drives.
func (x *examination) checkImages(devices []types.BaseVirtualDevice) {
	for _, dev := range devices {
		d := dev.GetVirtualDevice()
		hint := "disconnect it; the image is not exported"
		switch dev.(type) {
		case *types.VirtualCdrom:
			if x.opts.RemoveCDROM {
				continue
			}
			hint = "take it out for the export (-remove-cdrom); the image is not exported"
		case *types.VirtualFloppy:
		default:
			continue
		}
		if !hasImage(d) {
			continue
		}
		text := label(d) + " is connected"
		if image := imageOf(d.Backing); image != "" {
			text = label(d) + " holds the image " + image
		}
		x.warn(CodeImage, text, hint)
	}
}

// checkTasks looks for tasks that run on the VM.
func (c *Client) checkTasks(ctx context.Context, x *examination, _ VM) error {
	for _, ref := range x.vm.RecentTask {
		var t mo.Task
		if err := c.properties(ctx, ref, []string{"info"}, &t); err != nil {
			if faultOf(err) == nil {
				return err
			}
			continue // the task is forgotten, or not ours to see
		}
		if s := t.Info.State; s != types.TaskInfoStateRunning && s != types.TaskInfoStateQueued {
			continue
		}
		what := t.Info.DescriptionId
		if what == "" {
			what = t.Info.Name
		}
		x.fail(CodeTask, fmt.Sprintf("a task is %s on the VM: %s (%d %%)", t.Info.State, what, t.Info.Progress), "wait for its end")
	}
	return nil
}

// checkHost looks whether the ESXi host that serves the data can be reached
// (F-NFC-5). Which address the lease will name is known only when it is there,
// so that an unreachable host is a warning.
func (c *Client) checkHost(ctx context.Context, x *examination, vm VM) error {
	if x.vm.Runtime.Host == nil || !c.isVCenter() {
		return nil // the host is what we speak to
	}
	var host mo.HostSystem
	if err := c.properties(ctx, *x.vm.Runtime.Host, []string{"name", "runtime.connectionState", "summary.config.port"}, &host); err != nil {
		if faultOf(err) == nil {
			return err
		}
		return nil // not ours to see
	}
	if s := host.Runtime.ConnectionState; s != "" && s != types.HostSystemConnectionStateConnected {
		x.fail(CodeInaccessible, fmt.Sprintf("its ESXi host %s is %s", host.Name, s), "connect the host to vCenter first")
		return nil
	}
	reach := x.opts.Reach
	if reach == nil {
		reach = c.reach.tcp
	}
	port := hostPortOf(host.Summary.Config.Port)
	if err := reach(ctx, host.Name, port); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		x.warn(CodeHost, fmt.Sprintf("its ESXi host %s cannot be reached on port %d: %v", host.Name, port, plainNetwork(err)),
			"the data comes from the host itself: check DNS, routing and firewalls between this machine and it")
	}
	return nil
}

// hostPortOf returns the port on which a host serves data: 443 (F-NFC-5), unless
// it was added to vCenter with one of its own (F-INV-4).
func hostPortOf(configured int32) int {
	if configured <= 0 || configured == 902 {
		return 443
	}
	return int(configured)
}

// reachLimit bounds an attempt to reach a host.
const reachLimit = 3 * time.Second

// tcp resolves the host's name and connects.
func (r *reach) tcp(ctx context.Context, host string, port int) error {
	limited, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	conn, err := r.host(limited, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

// plainNetwork words a network error as this package does everywhere.
func plainNetwork(err error) error {
	e := &Error{Err: plain(err)}
	e.explainNetwork(err)
	return e.Err
}

// oneLine is s on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
