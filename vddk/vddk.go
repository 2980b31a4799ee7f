// Package vddk serves disks of vSphere by nbdkit and VMware's VDDK, for those who still
// have that library: it is proprietary, and its public download has ended.
//
// A [Tool] says where the programs are, and whether they work. Its [Server] is one
// nbdkit for one disk: read-only, on a unix socket in a directory that only this user can
// enter. The password is in a file there, of mode 0600, until nbdkit has read it; it is
// neither among nbdkit's arguments nor in its environment, and the environment holds
// nothing else of ours. nbdkit ends with this process, whatever ends that
// (--exit-with-parent), and with [Server.Close].
//
// What nbdkit writes to its standard error is handed to who started it, and its last
// lines are part of the error when it dies.
//
// Not promised: whom VDDK connects to. It asks vSphere for the host and for the port
// itself.
package vddk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

// Transport is how VDDK is told to fetch the bytes: encrypted, from the host.
const Transport = "nbdssl"

// checkTime bounds how long nbdkit may take to load the library.
const checkTime = 30 * time.Second

// Tool is nbdkit with its vddk plugin and the library.
type Tool struct {
	LibDir string // of VDDK, as unpacked: vmware-vix-disklib-distrib; absolute
	Nbdkit string // the program; "" is nbdkit of the PATH
}

// Disk is what vSphere is asked for.
type Disk struct {
	Server, Port   string
	User, Password string
	Thumbprint     string // SHA-1 of the server's certificate, 20 hex pairs with colons
	VM             string // managed object reference
	Snapshot       string // the same; "" for a VM that is off
	File           string // as "[datastore] folder/name.vmdk"
}

func (t Tool) program() string {
	if t.Nbdkit == "" {
		return "nbdkit"
	}
	return t.Nbdkit
}

// Hints of [Tool.Check].
const (
	hintNbdkit = "install nbdkit with its vddk plugin: the package nbdkit-vddk-plugin of Fedora, RHEL and their relatives, nbdkit from source elsewhere (Debian builds it without that plugin)"
	hintLibDir = "unpack the archive VMware-vix-disklib-….x86_64.tar.gz that Broadcom's support portal has for customers, and name its directory vmware-vix-disklib-distrib"
)

// Check says what of the tool is missing or does not work, and where to get it. The
// error is permanent: see package fault.
func (t Tool) Check(ctx context.Context) error {
	program, err := exec.LookPath(t.program())
	if err != nil {
		return missing(fmt.Errorf("%s is not installed", t.program()), hintNbdkit)
	}
	if !filepath.IsAbs(t.LibDir) {
		return missing(fmt.Errorf("the directory of VDDK, %q, is not an absolute path", t.LibDir), hintLibDir)
	}
	libs, _ := filepath.Glob(filepath.Join(t.LibDir, "lib64", "libvixDiskLib.so*")) // the pattern is well-formed unless the directory's name is odd
	if len(libs) == 0 {
		if _, err := os.Stat(filepath.Join(t.LibDir, "lib64")); err != nil {
			return missing(fmt.Errorf("%s is not VDDK: %w", t.LibDir, err), hintLibDir)
		}
		return missing(fmt.Errorf("%s is not VDDK: it has no lib64/libvixDiskLib.so", t.LibDir), hintLibDir)
	}
	soon, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var said tail
	cmd := exec.CommandContext(soon, program, "vddk", "libdir="+t.LibDir, "--dump-plugin")
	cmd.Env, cmd.Stderr, cmd.WaitDelay = environment(os.TempDir()), &said, time.Second
	err = cmd.Run()
	said.end()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case soon.Err() != nil:
		err = fmt.Errorf("no answer within %s", checkTime)
	}
	return missing(fmt.Errorf("nbdkit cannot use its vddk plugin with %s: %w%s", t.LibDir, err, said.quoted()), hintNbdkit)
}

func missing(err error, hint string) error { return fault.Permanent(fault.WithHint(err, hint)) }

// environment is all that nbdkit is told of ours. VDDK keeps its temporary files in dir.
func environment(dir string) []string {
	env := []string{"LC_ALL=C", "TMPDIR=" + dir}
	for _, name := range []string{"PATH", "HOME"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// arguments are those of nbdkit(1) and nbdkit-vddk-plugin(1).
func (t Tool) arguments(d Disk, socket, password string) []string {
	args := []string{
		"--foreground", "--exit-with-parent", "--readonly", "--unix", socket,
		"vddk", "libdir=" + t.LibDir,
		"server=" + d.Server, "port=" + d.Port, "user=" + d.User, "password=+" + password, "thumbprint=" + d.Thumbprint,
		"vm=moref=" + d.VM, "transports=" + Transport,
	}
	if d.Snapshot != "" {
		args = append(args, "snapshot="+d.Snapshot)
	}
	return append(args, "file="+d.File)
}

var errPassword = errors.New("the password holds a line break, which a file of nbdkit cannot say")

// writePassword writes the file that nbdkit reads, which is the first line of it.
func writePassword(path, password string) error {
	if strings.ContainsAny(password, "\r\n") {
		return fault.Permanent(errPassword)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(password + "\n")
	return errors.Join(err, f.Close())
}
