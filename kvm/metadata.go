package kvm

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"

	"libvirt.org/go/libvirtxml"
)

const (
	osinfoNamespace  = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
	maxMetadataBytes = 4 << 10 // of one text
)

// osinfoXML is libosinfo's element, as virt-install and virt-manager write and read it.
type osinfoXML struct {
	XMLName xml.Name `xml:"libosinfo:libosinfo"`
	NS      string   `xml:"xmlns:libosinfo,attr"`
	OS      struct {
		ID string `xml:"id,attr"`
	} `xml:"libosinfo:os"`
}

// sourceXML says where the domain came from.
type sourceXML struct {
	XMLName       xml.Name `xml:"hyper2kvm:source"`
	NS            string   `xml:"xmlns:hyper2kvm,attr"`
	Name          string   `xml:"hyper2kvm:name"`
	Path          string   `xml:"hyper2kvm:path,omitempty"`
	VCenter       string   `xml:"hyper2kvm:vcenter,omitempty"`
	Moref         string   `xml:"hyper2kvm:moref,omitempty"`
	InstanceUUID  string   `xml:"hyper2kvm:instance_uuid,omitempty"`
	GuestID       string   `xml:"hyper2kvm:guest_id,omitempty"`
	GuestFullName string   `xml:"hyper2kvm:guest_full_name,omitempty"`
}

// metadata returns what people and tools may want to know of g's past.
func metadata(g Guest) (*libvirtxml.DomainMetadata, error) {
	clean := func(s string) string { return cleanText(s, maxMetadataBytes) }
	source := sourceXML{
		NS: MetadataNamespace, Name: clean(g.Name), Path: clean(g.Source.Path),
		VCenter: clean(g.Source.VCenter), Moref: clean(g.Source.Moref),
		InstanceUUID: clean(g.Source.InstanceUUID),
		GuestID:      clean(g.GuestID), GuestFullName: clean(g.GuestFullName),
	}
	osinfo := osinfoXML{NS: osinfoNamespace}
	osinfo.OS.ID = cmp.Or(OSInfo(g.GuestID), "http://libosinfo.org/unknown")

	var out bytes.Buffer
	for _, part := range []any{osinfo, source} {
		text, err := xml.MarshalIndent(part, "    ", "  ")
		if err != nil {
			return nil, fmt.Errorf("marshal metadata: %w", err)
		}
		fmt.Fprintf(&out, "\n%s", text)
	}
	out.WriteString("\n  ")
	return &libvirtxml.DomainMetadata{XML: out.String()}, nil
}
