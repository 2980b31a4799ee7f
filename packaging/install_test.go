package packaging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// debian is a minimal Debian root of the test's own, as scripts/bareroot.sh makes
// it: no systemd runs in it.
type debian struct {
	t    *testing.T
	root string
}

// bareDebian returns the root that scripts/fresh.sh has made for this test, or
// makes one, which takes a minute.
func bareDebian(t *testing.T) debian {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("packages are installed by root, in a Debian root that only root can make; make fresh runs it")
	}
	root := os.Getenv("BARE_ROOT")
	if root == "" {
		root = filepath.Join(t.TempDir(), "root")
		run(t, "../scripts/bareroot.sh", root)
	}
	return debian{t, root}
}

// enter prepares a command in the root, with a /proc of its own that ends with it.
func (d debian) enter(ctx context.Context, args ...string) *exec.Cmd {
	// In a root that was entered by chroot, "/" is no mount and cannot be made private;
	// scripts/fresh.sh has done that.
	const script = `mount --make-rprivate / 2>/dev/null; mount -t proc proc "$0/proc" && exec chroot "$0" "$@"`
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--propagation", "unchanged", "sh", "-c", script, d.root}, args...)...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive",
	}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} { // for apt-get
		if value, set := os.LookupEnv(name); set {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// run runs a command in the root as root and returns what it prints.
func (d debian) run(args ...string) string {
	d.t.Helper()
	out, err := d.enter(d.t.Context(), args...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// path is where a file of the root is from outside.
func (d debian) path(name string) string { return filepath.Join(d.root, name) }

func (d debian) exists(name string) bool {
	_, err := os.Lstat(d.path(name))
	return err == nil
}

func (d debian) read(name string) string {
	d.t.Helper()
	data, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(data)
}

func (d debian) write(name, text string, mode os.FileMode) {
	d.t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(d.path(name)), 0o755), os.WriteFile(d.path(name), []byte(text), mode))
	if err != nil {
		d.t.Fatal(err)
	}
}

// bring copies a file into the root.
func (d debian) bring(from, to string) {
	d.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(to, string(data), 0o644)
}

// unit is what the [Service] sections of a unit and its drop-ins say, by key, in
// their order.
type unit map[string][]string

// readUnit reads the installed unit as systemd would, as far as this test needs it.
func (d debian) readUnit(name string) unit {
	d.t.Helper()
	files := []string{"usr/lib/systemd/system/" + name}
	drops, err := filepath.Glob(d.path("etc/systemd/system/" + name + ".d/*.conf"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, drop := range drops {
		rel, err := filepath.Rel(d.root, drop)
		if err != nil {
			d.t.Fatal(err)
		}
		files = append(files, rel)
	}
	u := make(unit)
	for _, file := range files {
		section := ""
		for line := range strings.Lines(d.read(file)) {
			line = strings.TrimSpace(line)
			key, value, found := strings.Cut(line, "=")
			switch {
			case strings.HasPrefix(line, "["):
				section = line
			case section == "[Service]" && found && !strings.HasPrefix(line, "#"):
				u[key] = append(u[key], value)
			}
		}
	}
	return u
}

// one is the last value of a key, which is the one that counts.
func (u unit) one(key string) string {
	if v := u[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// service is the daemon as systemd would run it.
type service struct {
	cmd  *exec.Cmd
	log  *bytes.Buffer // once done: nobody writes into it any more
	done chan struct{}
	err  error // once done
}

// start starts a unit of type notify and waits until it says that it is ready.
func (d debian) start(name string) *service {
	d.t.Helper()
	u := d.readUnit(name)
	if u.one("Type") != "notify" {
		d.t.Fatalf("the unit is of type %q", u.one("Type"))
	}
	uid, gid := d.id("-u", u.one("User")), d.id("-g", u.one("Group"))
	env := []string{"env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "USER=" + u.one("User")}
	for kind, base := range map[string]string{"State": "/var/lib/", "Runtime": "/run/", "Configuration": "/etc/"} {
		dir := u.one(kind + "Directory")
		if dir == "" {
			continue
		}
		mode, err := strconv.ParseUint(or(u.one(kind+"DirectoryMode"), "0755"), 8, 32)
		path := d.path(base + dir)
		if err = errors.Join(err, os.MkdirAll(path, 0o755)); err == nil && kind != "Configuration" {
			err = errors.Join(os.Chown(path, uid, gid), os.Chmod(path, os.FileMode(mode)))
		}
		if err != nil {
			d.t.Fatal(err)
		}
		env = append(env, strings.ToUpper(kind)+"_DIRECTORY="+base+dir)
	}
	const credentials = "/run/credentials"
	for _, c := range u["LoadCredential"] {
		id, from, _ := strings.Cut(c, ":")
		d.write(filepath.Join(credentials, id), d.read(from), 0o400)
		if err := os.Chown(d.path(filepath.Join(credentials, id)), uid, gid); err != nil {
			d.t.Fatal(err)
		}
	}
	env = append(env, "CREDENTIALS_DIRECTORY="+credentials, "NOTIFY_SOCKET=/run/notify")
	socket := d.path("run/notify")
	_ = os.Remove(socket) // of an earlier start
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		err = os.Chmod(socket, 0o777)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	defer told.Close()

	command := fmt.Sprintf("umask %s && exec %s", or(u.one("UMask"), "0022"), u.one("ExecStart"))
	args := append([]string{"setpriv", "--reuid", strconv.Itoa(uid), "--regid", strconv.Itoa(gid), "--clear-groups", "--no-new-privs"}, env...)
	s := &service{cmd: d.enter(context.Background(), append(args, "sh", "-c", command)...), log: new(bytes.Buffer), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
		_ = told.SetReadDeadline(time.Unix(1, 0)) // nobody will say more
	}()
	d.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
		if d.t.Failed() {
			d.t.Logf("the daemon's log:\n%s", s.log)
		}
	})
	for buf := make([]byte, 4096); ; {
		n, err := told.Read(buf)
		if err != nil {
			<-s.done // which is why nobody says more
			d.t.Fatalf("the daemon ended before it was ready: %v\n%s", err, s.log)
		}
		if bytes.Contains(buf[:n], []byte("READY=1")) {
			return s
		}
	}
}

// stop ends the daemon as systemd does.
func (d debian) stop(s *service) {
	d.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	if <-s.done; s.err != nil {
		d.t.Errorf("the daemon ends with %v\n%s", s.err, s.log)
	}
}

// id looks up a user in the root.
func (d debian) id(what, name string) int {
	d.t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(d.run("id", what, name)))
	if err != nil || n == 0 {
		d.t.Fatalf("id %s %s: %d, %v", what, name, n, err)
	}
	return n
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// olderDeb is the package as an earlier version.
func olderDeb(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "older")
	run(t, "dpkg-deb", "-R", deb, dir)
	control := filepath.Join(dir, "DEBIAN", "control")
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "Version: "+version+"\n", "Version: "+older+"\n", 1)
	if changed == string(text) {
		t.Fatalf("no version to change in\n%s", text)
	}
	if err := os.WriteFile(control, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	out := dir + ".deb"
	run(t, "dpkg-deb", "--root-owner-group", "-Znone", "-b", dir, out)
	return out
}

// The life of the package on a bare Debian: installed with what it depends on,
// configured, used, upgraded with the administrator's configuration and the jobs
// kept, used again, removed, purged.
func TestThePackageIsInstalledUsedUpgradedAndRemoved(t *testing.T) {
	d := bareDebian(t)
	newer := deb(t)
	d.bring(olderDeb(t, newer), "/root/older.deb")
	d.bring(newer, "/root/newer.deb")
	d.run("apt-get", "update", "-q")
	d.run("apt-get", "install", "-q", "-y", "--no-install-recommends", "/root/older.deb")
	if got := d.run("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "hyper2kvm"); got != older+" installed" {
		t.Fatalf("installed: %s", got)
	}
	uid := d.id("-u", "hyper2kvm")
	if !d.exists("/etc/systemd/system/multi-user.target.wants/hyper2kvmd.service") {
		t.Error("the unit is not enabled")
	}

	lab, disk := aLab(t)
	d.configure(lab)
	config := d.read("/etc/hyper2kvm/config.yaml")
	s := d.start("hyper2kvmd.service")
	id := d.export(lab, "/var/lib/hyper2kvm/vms/first") // over the socket, as h2kvmctl does by itself
	d.holds("/var/lib/hyper2kvm/vms/first", disk, uid)
	d.stop(s)

	d.run("dpkg", "-i", "/root/newer.deb")
	d.run("dpkg-reconfigure", "hyper2kvm") // what the scripts do may be done again
	if got := d.run("dpkg-query", "-W", "-f", "${Version}", "hyper2kvm"); got != version {
		t.Errorf("after the upgrade: %s", got)
	}
	if got := d.read("/etc/hyper2kvm/config.yaml"); got != config {
		t.Errorf("the upgrade has changed the configuration:\n%s", got)
	}
	if got := d.id("-u", "hyper2kvm"); got != uid {
		t.Errorf("the user was %d and is %d", uid, got)
	}
	s = d.start("hyper2kvmd.service")
	if out := d.run("h2kvmctl", "query", "-id", id, "-json"); !strings.Contains(out, `"completed"`) {
		t.Errorf("the job of the earlier version: %s", out)
	}
	d.stop(s)
	tls := d.withTLS()
	s = d.start("hyper2kvmd.service")
	d.export(lab, "/var/lib/hyper2kvm/vms/second", tls...)
	d.holds("/var/lib/hyper2kvm/vms/second", disk, uid)
	if out, err := d.enter(t.Context(), append([]string{"h2kvmctl"}, append(tls[:len(tls)-2:len(tls)-2], "status")...)...).CombinedOutput(); err == nil {
		t.Errorf("without a token: %s", out)
	}
	d.stop(s)

	out := d.run("dpkg", "-r", "hyper2kvm")
	if d.exists("/usr/bin/hyper2kvmd") || d.exists("/usr/lib/systemd/system/hyper2kvmd.service") || !d.exists("/etc/hyper2kvm/config.yaml") {
		t.Errorf("after the removal: %s", out)
	}
	out = d.run("dpkg", "-P", "hyper2kvm")
	for _, stays := range []string{"/var/lib/hyper2kvm is not empty and stays", "/etc/hyper2kvm is not empty and stays", "the user hyper2kvm stays"} {
		if !strings.Contains(out, stays) {
			t.Errorf("the purge does not say that %s:\n%s", stays, out)
		}
	}
	d.holds("/var/lib/hyper2kvm/vms/second", disk, uid)
	if d.exists("/etc/hyper2kvm/config.yaml") || d.exists("/etc/systemd/system/multi-user.target.wants/hyper2kvmd.service") {
		t.Error("the purge leaves the configuration or the unit's links")
	}
}

// aLab is a vCenter with one VM called web, and its disk.
func aLab(t *testing.T) (lab *vspheretest.Server, disk string) {
	t.Helper()
	disk = filepath.Join(t.TempDir(), "disk.raw")
	data := append(bytes.Repeat([]byte("hyper2kvm"), 100_000), make([]byte, 8<<20-900_000)...)
	if err := os.WriteFile(disk, data, 0o600); err != nil {
		t.Fatal(err)
	}
	lab = vspheretest.Start(t, vspheretest.Config{
		Password: "correct-horse-battery-staple",
		VMs:      []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: disk}}}},
	})
	return lab, disk
}

// configure does what the comments in the packaged configuration and unit tell an
// administrator to do for one vCenter.
func (d debian) configure(lab *vspheretest.Server) {
	d.t.Helper()
	u := lab.URL()
	user := u.User.Username()
	password, _ := u.User.Password()
	u.User = nil
	text := strings.Replace(d.read("/etc/hyper2kvm/config.yaml"), "\n    - localhost:8080\n", "\n    - "+d.addr()+"\n", 1)
	text += fmt.Sprintf("\nvcenters:\n  lab:\n    url: %s\n    username: %s\n    password_credential: vcenter-lab\n    insecure: true\n", u, user)
	d.write("/etc/hyper2kvm/config.yaml", text, 0o644)
	d.write("/etc/hyper2kvm/vcenter-lab.password", password+"\n", 0o600)
	d.write("/etc/systemd/system/hyper2kvmd.service.d/override.conf",
		"[Service]\nLoadCredential=vcenter-lab:/etc/hyper2kvm/vcenter-lab.password\n", 0o644)
}

// addr is a free address of this machine, the same for each call. Its port is below those
// that the kernel gives to whoever names none: nobody has it until the daemon listens.
func (d debian) addr() string {
	d.t.Helper()
	if d.exists("/root/addr") {
		return d.read("/root/addr")
	}
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000)))
	if err != nil { // somebody has just that one
		return d.addr()
	}
	defer l.Close()
	d.write("/root/addr", l.Addr().String(), 0o644)
	return l.Addr().String()
}

// withTLS does what docs/listening.md tells an administrator to do for clients on
// other machines, and returns the flags that such a client gives. The last two are its
// token.
func (d debian) withTLS() []string {
	d.t.Helper()
	d.run("hyper2kvmd", "tls", "init", "-host", "localhost", "-host", "127.0.0.1")
	d.run("hyper2kvmd", "token", "create", "-name", "scripts", "-role", "operator", "-o", "/root/token")
	d.write("/etc/hyper2kvm/config.yaml", strings.Replace(d.read("/etc/hyper2kvm/config.yaml"), "\nlisten:\n",
		"\nlisten:\n  cert_file: /etc/hyper2kvm/tls/server.crt\n  key_file: /etc/hyper2kvm/tls/server.key\n", 1), 0o644)
	return []string{"-daemon", "https://" + d.addr(), "-ca-file", "/etc/hyper2kvm/tls/ca.crt", "-token-file", "/root/token"}
}

// export does the main job: a VM out of the lab, as qcow2 with its domain. The flags
// say how h2kvmctl reaches the daemon.
func (d debian) export(lab *vspheretest.Server, to string, flags ...string) (id string) {
	d.t.Helper()
	ctl := func(args ...string) string {
		d.t.Helper()
		return d.run(append(append([]string{"h2kvmctl"}, flags...), args...)...)
	}
	d.write("/root/job.yaml", fmt.Sprintf("vm_path: %s\noutput_path: %s\noptions:\n  format: qcow2\n", lab.InventoryPath("web"), to), 0o644)
	var answer struct {
		JobIDs []string `json:"job_ids"`
	}
	out := ctl("submit", "-json", "-file", "/root/job.yaml")
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.JobIDs) != 1 {
		d.t.Fatalf("submit: %v\n%s", err, out)
	}
	ctl("watch", "-id", answer.JobIDs[0])
	return answer.JobIDs[0]
}

// holds compares the image that was made with the VM's disk, and wants it to belong
// to the daemon's user.
func (d debian) holds(dir, disk string, uid int) {
	d.t.Helper()
	images, err := filepath.Glob(d.path(dir + "/*.qcow2"))
	if err != nil || len(images) != 1 {
		d.t.Fatalf("in %s there is %v, %v", dir, images, err)
	}
	run(d.t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, images[0])
	info, err := os.Stat(images[0])
	if err != nil {
		d.t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != uid || info.Mode().Perm() != 0o640 {
		d.t.Errorf("the image belongs to %d with mode %v", s.Uid, info.Mode())
	}
}
