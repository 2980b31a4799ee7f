// Package kvm describes one virtual machine to libvirt.
//
// [Domain] turns a [Guest], a plain description of the hardware a VM had on its
// old host, into a libvirt domain XML document. It works in five steps:
//
//  1. clean the texts: names and notes come from people and may hold anything
//     (F-INV-1), so they are brought to what XML and libvirt accept ([DomainName]);
//  2. choose the board from the firmware: BIOS guests get "pc" (i440FX, the closest
//     to the 440BX board they knew, and the only one with IDE), UEFI guests get
//     "q35", which OVMF's Secure Boot needs for SMM;
//  3. place each disk: same kind of controller, same controller grouping and same
//     unit where QEMU has an equal, so that the guest finds the driver it booted
//     with; otherwise the nearest kind, and a [Note] says so. The boot disk of a
//     UEFI guest moves from SCSI to SATA, because most builds of OVMF cannot read
//     VMware's SCSI adapters. With [Options].Virtio all disks go to virtio-scsi and
//     all NICs to virtio-net; [Options].VirtioBlk is for guests that virt-v2v has converted;
//  4. leave room for the CPUs and the memory that can be added while the guest runs, if
//     they could at the source: empty sockets, and slots for modules;
//  5. marshal, with the guest's operating system as libosinfo metadata and where it
//     came from in a namespace of our own ([MetadataNamespace]).
//
// The same input always gives the same bytes.
//
// What it does not promise: that the guest boots. A guest may lack the driver of a
// controller that had to be replaced (each case is a [Note]), and Options.Virtio
// needs virtio drivers inside the guest, which this package does not install. It
// opens no file and speaks to no daemon: whether an image exists, and whether a
// libvirt network of that name exists, is for the caller to see to.
package kvm
