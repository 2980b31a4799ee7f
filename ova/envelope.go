package ova

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// maxEnvelope bounds a descriptor, in bytes: those of large VMs have some hundred KiB.
const maxEnvelope = 16 << 20

// maxItems bounds files, disks and devices of a descriptor: vSphere's VMs have 256
// disks at most.
const maxItems = 1000

// Envelope is what is needed of an OVF descriptor. Names are the file's own.
type Envelope struct {
	XMLName  xml.Name  `xml:"Envelope"`
	Files    []FileRef `xml:"References>File"`
	Disks    []Disk    `xml:"DiskSection>Disk"`
	Networks []Network `xml:"NetworkSection>Network"`
	Systems  []System  `xml:"VirtualSystem"`
	Several  *struct{} `xml:"VirtualSystemCollection"`
}

// FileRef is a file of the package.
type FileRef struct {
	ID          string `xml:"id,attr"`
	Href        string `xml:"href,attr"`
	Size        string `xml:"size,attr"`
	Compression string `xml:"compression,attr"`
	ChunkSize   string `xml:"chunkSize,attr"`
}

// Disk is a virtual disk.
type Disk struct {
	ID       string `xml:"diskId,attr"`
	FileRef  string `xml:"fileRef,attr"`
	Capacity string `xml:"capacity,attr"`
	Units    string `xml:"capacityAllocationUnits,attr"`
	Format   string `xml:"format,attr"`
	Parent   string `xml:"parentRef,attr"`
}

// Network is a network that cards are attached to.
type Network struct {
	Name string `xml:"name,attr"`
}

// System is a virtual machine.
type System struct {
	ID         string `xml:"id,attr"`
	Name       string `xml:"Name"`
	Annotation string `xml:"AnnotationSection>Annotation"`
	OS         struct {
		Type        string `xml:"osType,attr"` // VMware's: the guest id
		Description string `xml:"Description"`
	} `xml:"OperatingSystemSection"`
	Hardware []Hardware `xml:"VirtualHardwareSection"`
}

// Hardware is the devices of a virtual machine.
type Hardware struct {
	Items    []Item   `xml:"Item"`
	Storage  []Item   `xml:"StorageItem"`      // of OVF 2
	Ethernet []Item   `xml:"EthernetPortItem"` // of OVF 2
	Config   []Config `xml:"Config"`           // VMware's
	Extra    []Config `xml:"ExtraConfig"`      // VMware's
}

// Item is a device, in the terms of CIM_ResourceAllocationSettingData.
type Item struct {
	Type            string   `xml:"ResourceType"`
	SubType         string   `xml:"ResourceSubType"`
	InstanceID      string   `xml:"InstanceID"`
	Parent          string   `xml:"Parent"`
	Address         string   `xml:"Address"`
	AddressOnParent string   `xml:"AddressOnParent"`
	HostResource    []string `xml:"HostResource"`
	Connection      []string `xml:"Connection"`
	Quantity        string   `xml:"VirtualQuantity"`
	Units           string   `xml:"AllocationUnits"`
	ElementName     string   `xml:"ElementName"`
	CoresPerSocket  string   `xml:"CoresPerSocket"` // VMware's
}

// Config is a setting of VMware's.
type Config struct {
	Key   string `xml:"key,attr"`
	Value string `xml:"value,attr"`
}

// ParseEnvelope reads an OVF descriptor of one VM and checks that what refers to
// something in it finds that. Errors wrap [ErrInvalid] or [ErrUnsupported].
func ParseEnvelope(text []byte) (*Envelope, error) {
	if len(text) > maxEnvelope {
		return nil, fmt.Errorf("descriptor of more than %d bytes: %w", maxEnvelope, ErrInvalid)
	}
	var e Envelope
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = nil // UTF-8, as the specification asks
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("not an OVF descriptor: %w: %w", ErrInvalid, err)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return &e, nil
}

func (e *Envelope) check() error {
	switch {
	case e.Several != nil || len(e.Systems) > 1:
		return fmt.Errorf("several VMs in one package; export them one by one: %w", ErrUnsupported)
	case len(e.Systems) == 0:
		return fmt.Errorf("no VM in the descriptor: %w", ErrInvalid)
	case len(e.Files) > maxItems || len(e.Disks) > maxItems || len(e.Networks) > maxItems:
		return fmt.Errorf("more than %d files, disks or networks: %w", maxItems, ErrInvalid)
	}
	devices := 0
	for _, hw := range e.Systems[0].Hardware {
		devices += len(hw.Items) + len(hw.Storage) + len(hw.Ethernet)
	}
	if devices > maxItems {
		return fmt.Errorf("more than %d devices: %w", maxItems, ErrInvalid)
	}
	files := map[string]bool{}
	for _, f := range e.Files {
		if f.ID == "" || files[f.ID] {
			return fmt.Errorf("a file without an id, or two with the id %.200q: %w", f.ID, ErrInvalid)
		}
		files[f.ID] = true
	}
	disks := map[string]bool{}
	for _, d := range e.Disks {
		switch {
		case d.ID == "" || disks[d.ID]:
			return fmt.Errorf("a disk without an id, or two with the id %.200q: %w", d.ID, ErrInvalid)
		case d.FileRef != "" && !files[d.FileRef]:
			return fmt.Errorf("disk %.200q refers to the file %.200q, which is not among the references: %w", d.ID, d.FileRef, ErrInvalid)
		case d.Parent != "":
			return fmt.Errorf("disk %.200q has only what differs from the disk %.200q: %w", d.ID, d.Parent, ErrUnsupported)
		}
		disks[d.ID] = true
	}
	return nil
}

// File returns the reference with an id.
func (e *Envelope) File(id string) (FileRef, bool) {
	for _, f := range e.Files {
		if f.ID == id {
			return f, true
		}
	}
	return FileRef{}, false
}

// Disk returns the disk that a device's HostResource names, such as ovf:/disk/vmdisk1.
func (e *Envelope) Disk(resource string) (Disk, bool) {
	kind, id := hostResource(resource)
	for _, d := range e.Disks {
		if kind == "disk" && d.ID == id || kind == "file" && d.FileRef != "" && d.FileRef == id {
			return d, true
		}
	}
	return Disk{}, false
}

// hostResource takes ovf:/disk/ID or /disk/ID apart.
func hostResource(s string) (kind, id string) {
	s = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(s), "ovf:"), "/")
	kind, id, _ = strings.Cut(s, "/")
	return kind, id
}

// Bytes is the size of n units as DSP0004 spells them, such as "byte * 2^30", or as
// older descriptors do, such as "GigaBytes". ok is false when it is no number, not
// positive, or beyond all sizes.
func Bytes(n, units string) (size int64, ok bool) {
	var count int64
	for _, r := range strings.TrimSpace(n) {
		if r < '0' || r > '9' || count > maxBytes/10 {
			return 0, false
		}
		count = count*10 + int64(r-'0')
	}
	factor, ok := unit(units)
	if !ok || count <= 0 || count > maxBytes/factor {
		return 0, false
	}
	return count * factor, true
}

// maxBytes is more than any disk or memory has.
const maxBytes = 1 << 56

// unit is how many bytes a unit has.
func unit(s string) (int64, bool) {
	s = strings.ToLower(strings.Join(strings.Fields(s), ""))
	switch s {
	case "", "byte", "bytes":
		return 1, true
	case "kb", "kilobytes", "byte*2^10":
		return 1 << 10, true
	case "byte*10^3":
		return 1000, true
	case "mb", "megabytes", "byte*2^20":
		return 1 << 20, true
	case "gb", "gigabytes", "byte*2^30":
		return 1 << 30, true
	case "tb", "terabytes", "byte*2^40":
		return 1 << 40, true
	case "byte*10^6":
		return 1e6, true
	case "byte*10^9":
		return 1e9, true
	case "byte*10^12":
		return 1e12, true
	}
	return 0, false
}
