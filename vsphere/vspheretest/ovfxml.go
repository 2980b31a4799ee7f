package vspheretest

import "encoding/xml"

// Name spaces of an OVF envelope. encoding/xml knows no prefixes, so that they
// are part of the names below.
const (
	nsOVF  = "http://schemas.dmtf.org/ovf/envelope/1"
	nsCIM  = "http://schemas.dmtf.org/wbem/wscim/1/common"
	nsRASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
	nsVSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
	nsVMW  = "http://www.vmware.com/schema/ovf"
	nsXSI  = "http://www.w3.org/2001/XMLSchema-instance"
)

type ovfEnvelope struct {
	XMLName xml.Name `xml:"Envelope"`
	Build   string   `xml:"vmw:buildId,attr"`
	NS      string   `xml:"xmlns,attr"`
	Cim     string   `xml:"xmlns:cim,attr"`
	OVF     string   `xml:"xmlns:ovf,attr"`
	Rasd    string   `xml:"xmlns:rasd,attr"`
	Vmw     string   `xml:"xmlns:vmw,attr"`
	Vssd    string   `xml:"xmlns:vssd,attr"`
	Xsi     string   `xml:"xmlns:xsi,attr"`

	References []ovfFile   `xml:"References>File"`
	Disks      ovfDisks    `xml:"DiskSection"`
	Networks   ovfNetworks `xml:"NetworkSection"`
	System     ovfVM       `xml:"VirtualSystem"`
}

type ovfFile struct {
	ChunkSize   int64  `xml:"ovf:chunkSize,attr,omitempty"`
	Compression string `xml:"ovf:compression,attr,omitempty"`
	Href        string `xml:"ovf:href,attr"`
	ID          string `xml:"ovf:id,attr"`
	Size        int64  `xml:"ovf:size,attr"`
}

type ovfDisks struct {
	Info  string    `xml:"Info"`
	Disks []ovfDisk `xml:"Disk"`
}

type ovfDisk struct {
	Capacity  int64  `xml:"ovf:capacity,attr"`
	Units     string `xml:"ovf:capacityAllocationUnits,attr"`
	ID        string `xml:"ovf:diskId,attr"`
	FileRef   string `xml:"ovf:fileRef,attr,omitempty"`
	Format    string `xml:"ovf:format,attr"`
	Populated int64  `xml:"ovf:populatedSize,attr,omitempty"`
}

type ovfNetworks struct {
	Info     string       `xml:"Info"`
	Networks []ovfNetwork `xml:"Network"`
}

type ovfNetwork struct {
	Name        string `xml:"ovf:name,attr"`
	Description string `xml:"Description"`
}

type ovfVM struct {
	ID         string         `xml:"ovf:id,attr"`
	Info       string         `xml:"Info"`
	Name       string         `xml:"Name"`
	OS         ovfOS          `xml:"OperatingSystemSection"`
	Annotation *ovfAnnotation `xml:"AnnotationSection"`
	Hardware   ovfHardware    `xml:"VirtualHardwareSection"`
}

type ovfOS struct {
	ID          int    `xml:"ovf:id,attr"`
	Type        string `xml:"vmw:osType,attr"`
	Info        string `xml:"Info"`
	Description string `xml:"Description"`
}

type ovfAnnotation struct {
	Info string `xml:"Info"`
	Text string `xml:"Annotation"`
}

type ovfHardware struct {
	Info        string      `xml:"Info"`
	System      ovfSystem   `xml:"System"`
	Items       []ovfItem   `xml:"Item"`
	Config      []ovfConfig `xml:"vmw:Config"`
	ExtraConfig []ovfConfig `xml:"vmw:ExtraConfig"`
}

type ovfSystem struct {
	ElementName string `xml:"vssd:ElementName"`
	InstanceID  int    `xml:"vssd:InstanceID"`
	Identifier  string `xml:"vssd:VirtualSystemIdentifier"`
	Type        string `xml:"vssd:VirtualSystemType"`
}

// ovfItem has its elements in the order that the schema wants, which is that of
// the alphabet.
type ovfItem struct {
	Required            string    `xml:"ovf:required,attr,omitempty"`
	Address             string    `xml:"rasd:Address,omitempty"`
	AddressOnParent     string    `xml:"rasd:AddressOnParent,omitempty"`
	AllocationUnits     string    `xml:"rasd:AllocationUnits,omitempty"`
	AutomaticAllocation string    `xml:"rasd:AutomaticAllocation,omitempty"`
	Connection          string    `xml:"rasd:Connection,omitempty"`
	Description         string    `xml:"rasd:Description,omitempty"`
	ElementName         string    `xml:"rasd:ElementName"`
	HostResource        string    `xml:"rasd:HostResource,omitempty"`
	InstanceID          int       `xml:"rasd:InstanceID"`
	Parent              int       `xml:"rasd:Parent,omitempty"`
	SubType             string    `xml:"rasd:ResourceSubType,omitempty"`
	ResourceType        int       `xml:"rasd:ResourceType"`
	VirtualQuantity     int64     `xml:"rasd:VirtualQuantity,omitempty"`
	CoresPerSocket      *ovfCores `xml:"vmw:CoresPerSocket"`
}

type ovfCores struct {
	Required string `xml:"ovf:required,attr"`
	Cores    int32  `xml:",chardata"`
}

type ovfConfig struct {
	Required string `xml:"ovf:required,attr"`
	Key      string `xml:"vmw:key,attr"`
	Value    string `xml:"vmw:value,attr"`
}
