package kvm

import "strings"

// OSInfo returns the libosinfo id (https://libosinfo.org) of the operating system
// that a vSphere guestId names, such as "http://debian.org/debian/12" for
// "debian12_64Guest"; empty when there is none to tell. vSphere's ids are coarse:
// Ubuntu has one for all its releases, which gives a generic Linux,
// and "windows8Server64Guest" is Windows Server 2012 as well as 2012 R2.
func OSInfo(guestID string) string {
	base := guestBase(guestID)
	if id, ok := osinfoIDs[base]; ok {
		return id
	}
	if release, ok := strings.CutPrefix(base, "debian"); ok && release != "" {
		return "http://debian.org/debian/" + cut(release, 3)
	}
	if strings.Contains(base, "Linux") || otherLinux[base] {
		return "http://libosinfo.org/linux/2022"
	}
	return ""
}

// guestBase is a guestId without its end: "rhel9" for "rhel9_64Guest".
func guestBase(guestID string) string {
	base := strings.TrimSuffix(strings.TrimSuffix(guestID, "64"), "Guest") // otherGuest64 has them in this order
	return strings.TrimSuffix(strings.TrimSuffix(base, "64"), "_")
}

// osinfoIDs holds guestIds without their end (VirtualMachineGuestOsIdentifier of the
// vSphere API).
var osinfoIDs = map[string]string{
	"winNT":              "http://microsoft.com/winnt/4.0",
	"win2000Pro":         "http://microsoft.com/win/2k",
	"win2000Serv":        "http://microsoft.com/win/2k",
	"win2000AdvServ":     "http://microsoft.com/win/2k",
	"winXPHome":          "http://microsoft.com/win/xp",
	"winXPPro":           "http://microsoft.com/win/xp",
	"winNetWeb":          "http://microsoft.com/win/2k3",
	"winNetStandard":     "http://microsoft.com/win/2k3",
	"winNetEnterprise":   "http://microsoft.com/win/2k3",
	"winNetDatacenter":   "http://microsoft.com/win/2k3",
	"winNetBusiness":     "http://microsoft.com/win/2k3",
	"winVista":           "http://microsoft.com/win/vista",
	"winLonghorn":        "http://microsoft.com/win/2k8",
	"windows7":           "http://microsoft.com/win/7",
	"windows7Server":     "http://microsoft.com/win/2k8r2",
	"windows8":           "http://microsoft.com/win/8",
	"windows8Server":     "http://microsoft.com/win/2k12r2",
	"windows9":           "http://microsoft.com/win/10",
	"windows9Server":     "http://microsoft.com/win/2k16",
	"windows11":          "http://microsoft.com/win/11",
	"windows2019srv":     "http://microsoft.com/win/2k19",
	"windows2019srvNext": "http://microsoft.com/win/2k22",
	"windows2022srvNext": "http://microsoft.com/win/2k25",

	"rhel4":         "http://redhat.com/rhel/4.9",
	"rhel5":         "http://redhat.com/rhel/5.11",
	"rhel6":         "http://redhat.com/rhel/6-unknown",
	"rhel7":         "http://redhat.com/rhel/7-unknown",
	"rhel8":         "http://redhat.com/rhel/8-unknown",
	"rhel9":         "http://redhat.com/rhel/9-unknown",
	"rhel10":        "http://redhat.com/rhel/10-unknown",
	"centos":        "http://centos.org/centos/5.11",
	"centos6":       "http://centos.org/centos/6.10",
	"centos7":       "http://centos.org/centos/7.0",
	"centos8":       "http://centos.org/centos/8",
	"centos9":       "http://centos.org/centos-stream/9",
	"oracleLinux6":  "http://oracle.com/ol/6.10",
	"oracleLinux7":  "http://oracle.com/ol/7.9",
	"oracleLinux8":  "http://oracle.com/ol/8.5",
	"oracleLinux9":  "http://oracle.com/ol/9.0",
	"rockylinux":    "http://rockylinux.org/rocky/unknown",
	"almalinux":     "http://almalinux.org/almalinux/9",
	"sles10":        "http://suse.com/sles/10",
	"sles11":        "http://suse.com/sles/11",
	"sles12":        "http://suse.com/sles/12-unknown",
	"sles15":        "http://suse.com/sle/15-unknown",
	"fedora":        "http://fedoraproject.org/fedora/unknown",
	"freebsd":       "http://freebsd.org/freebsd/10.4",
	"freebsd11":     "http://freebsd.org/freebsd/11.4",
	"freebsd12":     "http://freebsd.org/freebsd/12.3",
	"freebsd13":     "http://freebsd.org/freebsd/13.1",
	"solaris10":     "http://sun.com/solaris/10",
	"solaris11":     "http://oracle.com/solaris/11",
	"amazonlinux2":  "http://libosinfo.org/linux/2018",
	"other24xLinux": "http://libosinfo.org/unknown",
	"other26xLinux": "http://libosinfo.org/unknown",
}

// otherLinux are the systems whose guestId says neither a release nor "Linux".
var otherLinux = map[string]bool{
	"ubuntu": true, "redhat": true, "suse": true, "sles": true, "opensuse": true,
	"mandrake": true, "mandriva": true, "coreos": true, "vmwarePhoton": true,
	"miraclelinux": true, "prolinux": true, "kylinlinux": true, "fusionos": true,
	"pardus": true, "sles16": true,
}

// isWindows says whether a guest expects what Windows expects: a hardware clock in
// local time, and Hyper-V's help.
func isWindows(g Guest) bool {
	return strings.HasPrefix(g.GuestID, "win") ||
		g.GuestID == "" && strings.Contains(g.GuestFullName, "Windows")
}
