// Package packaging_test builds what users install and uses it: the packages and
// archives of scripts/package.sh.
package packaging_test

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// version is that of the packages that the tests build; older is one before it.
const (
	version = "0.2.0+test"
	older   = "0.2.0~rc1"
	epoch   = "1750000000" // the commit's time
)

// scratch is where the packages go, and unpackedDir what the .deb installs; TestMain
// removes both.
var scratch, unpackedDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		for _, dir := range []*string{&scratch, &unpackedDir} {
			if *dir, err = os.MkdirTemp("", "hyper2kvm-packaging-"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(*dir) // a temporary directory
		}
		return m.Run()
	}())
}

// built builds the packages once: those of this machine, and an archive for each
// of the other systems.
var built = sync.OnceValue(func() error {
	return build("..", scratch, "linux/"+runtime.GOARCH+" darwin/arm64 windows/amd64")
})

// build runs the script of a work tree.
func build(tree, out, targets string) error {
	cmd := exec.Command(filepath.Join(tree, "scripts", "package.sh"), out)
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH="+epoch, "TARGETS="+targets)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("package.sh: %w\n%s", err, text)
	}
	return nil
}

// artifact returns the path of one of the files that were built.
func artifact(t *testing.T, name string) string {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(scratch, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; there is %v", err, list(t, scratch))
	}
	return path
}

func deb(t *testing.T) string {
	return artifact(t, "hyper2kvm_"+version+"_"+runtime.GOARCH+".deb")
}

func rpm(t *testing.T) string {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return artifact(t, "hyper2kvm-"+version+"-1."+arch+".rpm")
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// run runs a program of this machine and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v (scripts/setup.sh test installs what is missing)\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestABuildInAnotherDirectoryGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	deb(t)
	tree := filepath.Join(t.TempDir(), "elsewhere")
	copyTree(t, "..", tree)
	again := t.TempDir()
	if err := build(tree, again, "linux/"+runtime.GOARCH+" windows/amd64"); err != nil {
		t.Fatal(err)
	}
	for _, name := range list(t, again) {
		if name == "SHA256SUMS" {
			continue // the first one has more lines
		}
		first, err := os.ReadFile(filepath.Join(scratch, name))
		if err != nil {
			t.Error(err)
			continue
		}
		second, err := os.ReadFile(filepath.Join(again, name))
		if err != nil || string(first) != string(second) {
			t.Errorf("%s differs between two builds (%d and %d bytes, %v)", name, len(first), len(second), err)
		}
	}
}

// copyTree copies the work tree without what git ignores.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range strings.Split(run(t, "git", "-C", from, "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"), "\x00") {
		data, err := os.ReadFile(filepath.Join(from, name))
		if name == "" || errors.Is(err, os.ErrNotExist) { // deleted, and not committed yet
			continue
		}
		path := filepath.Join(to, name)
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o777)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(path, data, info.Mode().Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryFileHasItsChecksum(t *testing.T) {
	t.Parallel()
	sums := artifact(t, "SHA256SUMS")
	cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet", filepath.Base(sums))
	cmd.Dir = filepath.Dir(sums)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	if lines, files := strings.Count(string(text), "\n"), len(list(t, scratch))-1; lines != files {
		t.Errorf("%d checksums of %d files", lines, files)
	}
}

func TestArchivesHoldWhatTheirSystemCanRun(t *testing.T) {
	t.Parallel()
	clients := []string{"LICENSE", "h2kvmctl", "hyper2kvm", "man/h2kvmctl.1.gz", "man/hyper2kvm.1.gz", "completions/_hyper2kvm", "doc/README.md"}
	all := slices.Concat(clients, []string{"hyper2kvmd", "man/hyper2kvmd.8.gz", "packaging/config.yaml", "packaging/hyper2kvmd.service", "doc/examples/conversion.conf"})
	for system, want := range map[string][]string{
		"linux_" + runtime.GOARCH: all,
		"darwin_arm64":            clients,
		"windows_amd64":           clients,
	} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			top := "hyper2kvm_" + version + "_" + system
			var names []string
			if strings.HasPrefix(system, "windows") {
				names = inZip(t, artifact(t, top+".zip"))
			} else {
				names = inTar(t, artifact(t, top+".tar.gz"))
			}
			daemon := false
			for i, name := range names {
				rest, below := strings.CutPrefix(name, top+"/")
				if !below {
					t.Errorf("%s is not below %s", name, top)
				}
				names[i] = strings.TrimSuffix(rest, ".exe")
				daemon = daemon || strings.Contains(rest, "hyper2kvmd")
			}
			for _, name := range want {
				if !slices.Contains(names, name) {
					t.Errorf("%s is missing", name)
				}
			}
			if daemon != strings.HasPrefix(system, "linux") {
				t.Errorf("a daemon in it: %v", daemon)
			}
		})
	}
}

func inTar(t *testing.T, path string) (names []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(h.ModTime.Unix()) != epoch || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s is of %v and of user %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		names = append(names, h.Name)
	}
}

func inZip(t *testing.T, path string) (names []string) {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range r.File {
		names = append(names, f.Name)
	}
	return names
}

func TestTheBillOfMaterialsNamesEveryModuleOfTheProgram(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(artifact(t, "hyper2kvmd_"+version+"_linux_"+runtime.GOARCH+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	modules := 0
	for line := range strings.Lines(run(t, "go", "version", "-m", installed(t, "usr/bin/hyper2kvmd"))) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "dep" {
			continue
		}
		modules++
		if want := "pkg:golang/" + f[1] + "@" + f[2]; !strings.Contains(strings.ToLower(string(text)), strings.ToLower(want)) {
			t.Errorf("%s is not in the bill", want)
		}
	}
	if modules < 10 {
		t.Errorf("the program has %d modules", modules)
	}
}

// unpacked holds what the .deb installs.
var unpacked = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("dpkg-deb", "-x", filepath.Join(scratch, "hyper2kvm_"+version+"_"+runtime.GOARCH+".deb"), unpackedDir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dpkg-deb: %w\n%s", err, out)
	}
	return unpackedDir, nil
})

// installed returns where a file of the .deb is unpacked.
func installed(t *testing.T, name string) string {
	t.Helper()
	deb(t)
	dir, err := unpacked()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func TestManualPagesSayWhatHelpSays(t *testing.T) {
	t.Parallel()
	for page, want := range map[string][]string{
		"man1/hyper2kvm.1.gz":  {"hyper2kvm export", "-format", "GOVC_URL", "Exit codes"},
		"man1/h2kvmctl.1.gz":   {"h2kvmctl submit", "H2KVM_DAEMON", "hyper2kvmd(8)"},
		"man8/hyper2kvmd.8.gz": {"-log-format", "HYPER2KVMD(8)", version},
	} {
		out := run(t, "man", "--warnings", "--local-file", "--pager=cat", "--encoding=UTF-8", installed(t, "usr/share/man/"+page))
		words := strings.Join(strings.Fields(out), " ") // lines are filled
		for _, w := range want {
			if !strings.Contains(words, w) {
				t.Errorf("%s says nothing of %s:\n%.1000s", page, w, out)
			}
		}
		if strings.Contains(out, "warning:") {
			t.Errorf("%s: %s", page, out)
		}
	}
}

func TestCompletionsAreValid(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"hyper2kvm", "hyper2kvmd", "h2kvmctl"} {
		run(t, "bash", "-n", installed(t, "usr/share/bash-completion/completions/"+program))
		zsh, err := os.ReadFile(installed(t, "usr/share/zsh/vendor-completions/_"+program))
		if err != nil || !strings.HasPrefix(string(zsh), "#compdef "+program+"\n") {
			t.Errorf("%s: %v, %.80q", program, err, zsh)
		}
	}
}

func TestLintianFindsNoError(t *testing.T) {
	t.Parallel()
	run(t, "lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", deb(t))
}

func TestRPMKnowsThePackage(t *testing.T) {
	t.Parallel()
	path := rpm(t)
	files := run(t, "rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEFLAGS:fflags} %{FILENAMES}\n]", path)
	for _, want := range []string{
		"-rwxr-xr-x root  /usr/bin/hyper2kvmd\n",
		"-rw-r--r-- root cn /etc/hyper2kvm/config.yaml\n", // kept at an upgrade
		"-rw-r--r-- root  /usr/lib/systemd/system/hyper2kvmd.service\n",
		"-rw-r--r-- root  /usr/lib/sysusers.d/hyper2kvm.conf\n",
		"-rw-r--r-- root l /usr/share/licenses/hyper2kvm/LICENSE\n",
	} {
		if !strings.Contains(files, want) {
			t.Errorf("%q is not among\n%s", want, files)
		}
	}
	if strings.Contains(files, " /usr/bin\n") || strings.Contains(files, " /usr/share/man\n") {
		t.Errorf("it owns directories of others:\n%s", files)
	}
	scripts := run(t, "rpm", "-qp", "--scripts", path)
	for _, want := range []string{"postinstall", "preuninstall", "postuninstall", "systemd-sysusers hyper2kvm.conf"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("the scripts say nothing of %s:\n%s", want, scripts)
		}
	}
	run(t, "rpm", "-K", "--nosignature", path)
	lint := exec.CommandContext(t.Context(), "rpmlint", "-c", "rpmlint.toml", path)
	// It unpacks the package by cpio, which would take the names in it as they are: the
	// files would land in this machine's /usr and /etc.
	tools := t.TempDir()
	if err := os.WriteFile(filepath.Join(tools, "cpio"), []byte("#!/bin/sh\nexec /usr/bin/cpio --no-absolute-filenames \"$@\"\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	lint.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"))
	before, _ := os.Stat("/usr/bin/hyper2kvmd")
	defer func() {
		if after, _ := os.Stat("/usr/bin/hyper2kvmd"); after != nil && (before == nil || !after.ModTime().Equal(before.ModTime())) {
			t.Error("a check of the package has installed it on this machine")
		}
	}()
	if out, err := lint.CombinedOutput(); err != nil || !strings.Contains(string(out), " 0 errors, 0 warnings,") {
		t.Errorf("rpmlint: %v\n%s", err, out)
	}
}

func TestScriptsOfThePackagesAreShellcheckClean(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"deb/p*", "rpm/p*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) != 3 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		run(t, "shellcheck", append([]string{"-s", "sh"}, files...)...)
	}
}

func TestVersionsSortAsTheyCameToBe(t *testing.T) {
	t.Parallel()
	repo := t.TempDir()
	script, err := os.ReadFile("../scripts/package.sh")
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(repo, "scripts"), 0o777),
			os.WriteFile(filepath.Join(repo, "scripts", "package.sh"), script, 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) {
		t.Helper()
		run(t, "git", append([]string{"-C", repo, "-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
	}
	var versions []string
	note := func() {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(repo, "scripts", "package.sh"), "-version")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, strings.TrimSpace(string(out)))
	}
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	note()
	git("tag", "v0.1.0-rc1")
	note()
	git("tag", "v0.1.0", "-m", "annotated, which wins")
	note()
	git("commit", "-q", "--allow-empty", "-m", "two")
	note()
	git("tag", "v0.1.1")
	note()
	for i := 1; i < len(versions); i++ {
		if err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", versions[i-1], "lt", versions[i]).Run(); err != nil {
			t.Errorf("%s is not before %s in %v", versions[i-1], versions[i], versions)
		}
	}
}
