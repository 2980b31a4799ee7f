package v2v

import "regexp"

// trace is something about a guest that virt-v2v's error does not say, and its log does.
type trace string

const (
	encrypted trace = "encrypted"
	dynamic   trace = "dynamic"
	oldXFS    trace = "old XFS"
)

// traces are what the log says then.
var traces = map[string]trace{
	"crypto_LUKS":          encrypted, // blkid
	`"BitLocker"`:          encrypted,
	": BitLocker":          encrypted,
	"ldm_vol":              dynamic, // ldmtool
	"ldm_disk":             dynamic,
	"Deprecated V4 format": oldXFS, // the kernel of the appliance
}

const (
	cleanWindows = "in the guest, turn Fast Startup off (powercfg /h off) and shut it down (shutdown /s /t 0); then export it again, or with -shutdown"
	nothingFound = `(?i)no root device|could not detect the source guest|inspection (field|of)|unable to inspect`
)

// known are the failures of which it is known what to do, those that say most first. None
// of them goes away by trying again.
var known = []struct {
	says  *regexp.Regexp // in its errors, its warnings, or its last words
	trace trace          // that there must be, too; "" is none
	hint  string
}{
	{regexp.MustCompile(`(?i)hibernat|fast re?start|mounted read-only|unsafe state`), "",
		"Windows is hibernated or was shut down with Fast Startup, or the VM was exported while it ran: " + cleanWindows},
	{regexp.MustCompile(`(?i)key to open (LUKS )?encrypted|clevis|bitlocker|luks`), "",
		"the system disk is encrypted (BitLocker or LUKS): decrypt it in the guest (manage-bde -off C:) and export it again"},
	{regexp.MustCompile(`(?i)dynamic disk|ldm_vol|ldmtool`), "",
		"the system is on a dynamic disk of Windows, which cannot be converted: make it a basic one, or leave -convert out"},
	{regexp.MustCompile(`(?i)deprecated V4 format|xfs.*(v4|version 4|crc=0)`), "",
		oldXFSHint},
	{regexp.MustCompile(nothingFound), encrypted,
		"no operating system is found, and there is an encrypted volume (BitLocker or LUKS): decrypt it in the guest (manage-bde -off C:) and export it again"},
	{regexp.MustCompile(nothingFound), dynamic,
		"no operating system is found, and there is a dynamic disk of Windows: make it a basic one, or leave -convert out"},
	{regexp.MustCompile(nothingFound + `|(?i)mount`), oldXFS,
		oldXFSHint},
	{regexp.MustCompile(nothingFound), "",
		"virt-v2v finds no operating system that it knows: if this is no system disk, or its system is another than Linux or Windows, leave -convert out"},
	{regexp.MustCompile(`(?i)multi-?boot|root device .* not found`), "",
		"several operating systems are installed, and virt-v2v does not choose between them: leave -convert out"},
	{regexp.MustCompile(`(?i)unable to convert this guest type|guest type .* not supported`), "",
		"virt-v2v converts Linux and Windows of the kinds in its manual: leave -convert out, and the VM has the hardware that it had"},
	{regexp.MustCompile(`(?i)insufficient free space in the conversion server`), "",
		"free a gigabyte in /var/tmp, or name another directory in LIBGUESTFS_CACHEDIR and TMPDIR"},
	{regexp.MustCompile(`(?i)not enough free space for conversion|less than .* free`), "",
		"make room in the guest: 100 MB on the system's file system and 50 MB on /boot at least; then export it again"},
	{regexp.MustCompile(`(?i)no space left on device|enospc|i/o error|input/output error`), "",
		"look whether the output directory is full, and the file systems of the guest: the conversion writes some hundred megabytes"},
	{regexp.MustCompile(`(?i)failed to find grub|no grub|grub.* not found`), "",
		"the guest lacks the tools of its boot loader (grub2-mkconfig; Debian's package grub2-common): install them there and export it again"},
	{regexp.MustCompile(`(?i)no installed kernel|no kernel`), "",
		"no kernel is found in the guest: see that its /boot is on one of its disks"},
	{regexp.MustCompile(`(?i)virtio-win`), "",
		"name the ISO with virtio drivers for Windows: -virtio-win ISO, or VIRTIO_WIN in the environment"},
	{regexp.MustCompile(`(?i)nbdkit`), "", "see that nbdkit works: nbdkit --dump-config"},
}

const oldXFSHint = "the guest has an XFS of version 4, which the kernel of this machine does not read any more: convert where the kernel still does (Debian 12), or leave -convert out"
