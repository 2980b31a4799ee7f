package vsphere

import (
	"context"
	"errors"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// Descriptor makes the OVF descriptor of what was exported. Call it after the
// download, with the files that were really written (F-NFC-16); images of CD
// and floppy drives that are not among them are left out of it.
func (c *Client) Descriptor(ctx context.Context, t Target, files []OVFFile) (Descriptor, error) {
	const op = "make the OVF descriptor"
	manager := c.session.vim.ServiceContent.OvfManager
	if manager == nil {
		return Descriptor{}, &Error{Op: op, On: t.VM.Path, Kind: ErrUnsupported, Err: errors.New("there is no OvfManager")}
	}
	if len(files) == 0 {
		return Descriptor{}, &Error{Op: op, On: t.VM.Path, Err: errors.New("no files are given")}
	}
	req := types.CreateDescriptor{
		This: *manager,
		Obj:  vmRef(t.VM.Ref),
		Cdp:  types.OvfCreateDescriptorParams{Name: t.VM.DisplayName(), IncludeImageFiles: types.NewBool(false)},
	}
	for _, f := range files {
		req.Cdp.OvfFiles = append(req.Cdp.OvfFiles, types.OvfFile{
			DeviceId: f.Key, Path: f.Path, Size: f.Size, Capacity: f.Capacity,
		})
	}
	if t.Snapshot.Ref != "" {
		ref := snapshotRef(t.Snapshot)
		req.Cdp.Snapshot = &ref
	}
	res, err := methods.CreateDescriptor(ctx, c.vim(), &req)
	if err != nil {
		return Descriptor{}, translate(op, t.VM.Path, err)
	}
	if failed := res.Returnval.Error; len(failed) > 0 {
		return Descriptor{}, translate(op, t.VM.Path, &taskError{&failed[0]})
	}
	if res.Returnval.OvfDescriptor == "" {
		return Descriptor{}, &Error{Op: op, On: t.VM.Path, Err: errors.New("the service sent an empty one")}
	}
	out := Descriptor{XML: res.Returnval.OvfDescriptor}
	for i := range res.Returnval.Warning {
		out.Warnings = append(out.Warnings, plainFault(&taskError{&res.Returnval.Warning[i]}).Error())
	}
	return out, nil
}
