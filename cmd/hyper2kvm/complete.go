package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/tui/profile"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Completion of values. A shell asks for it at each press of a key, so nothing
// is asked of the network: the VMs are those that a command has seen last.

// inventoryPath is where the paths of the VMs at a vCenter are kept.
func inventoryPath(host string) (string, error) {
	dir, err := os.UserCacheDir()
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:`, r) {
			return '_'
		}
		return r
	}, host)
	return filepath.Join(dir, "hyper2kvm", "inventory-"+name+".json"), err
}

// rememberInventory keeps the paths of VMs for the completion. That it cannot is
// no reason to fail.
func rememberInventory(host string, vms []vsphere.VM) {
	path, err := inventoryPath(host)
	if err != nil {
		return
	}
	paths := make([]string, len(vms))
	for i, vm := range vms {
		paths[i] = vm.Path
	}
	if b, err := json.Marshal(paths); err == nil && os.MkdirAll(filepath.Dir(path), 0o700) == nil {
		_ = atomicfile.Write(path, b, 0o600)
	}
}

// rememberedInventory returns what rememberInventory kept.
func rememberedInventory(host string) []string {
	path, err := inventoryPath(host)
	if err != nil {
		return nil
	}
	var paths []string
	b, err := os.ReadFile(path) //nolint:gosec // our own
	if err != nil || json.Unmarshal(b, &paths) != nil {
		return nil
	}
	return paths
}

// completeValues completes the value of a flag, and anything else as package cli
// does. words are the words of the command line before the request.
func (a *app) completeValues(words []string) cli.ShellCompleteFunc {
	return func(ctx context.Context, cmd *cli.Command) {
		flag, begun, ok := flagAtEnd(words)
		if !ok {
			cli.DefaultCompleteWithFlags(ctx, cmd)
			return
		}
		values, known := a.values(cmd, flag)
		if !known {
			cli.DefaultCompleteWithFlags(ctx, cmd)
			return
		}
		first := "" // values of a list before the one that is being written
		if flag == "columns" || flag == "sort" {
			first = begun[:strings.LastIndexByte(begun, ',')+1]
		}
		for _, v := range values {
			if strings.HasPrefix(first+v, begun) {
				fmt.Fprintln(a.Out, display.SafeText(first+v))
			}
		}
	}
}

// flagAtEnd finds the flag whose value is being written: "-vm", or "-vm /DC0/v".
func flagAtEnd(words []string) (flag, begun string, ok bool) {
	isFlag := func(w string) bool { return len(w) > 1 && w[0] == '-' && !strings.Contains(w, "=") }
	switch n := len(words); {
	case n > 0 && isFlag(words[n-1]):
		return strings.TrimLeft(words[n-1], "-"), "", true
	case n > 1 && isFlag(words[n-2]):
		return strings.TrimLeft(words[n-2], "-"), words[n-1], true
	}
	return "", "", false
}

// values are what a flag can be.
func (a *app) values(cmd *cli.Command, flag string) (values []string, known bool) {
	switch flag {
	case "format":
		values = []string{string(job.FormatOVF), string(job.FormatOVA), string(job.FormatRaw), string(job.FormatQcow2)}
		switch cmd.Name {
		case "check":
			values = append(values, reportFormats...)
		case "convert":
			values = []string{string(job.FormatQcow2), string(job.FormatRaw)}
		}
	case "transport":
		values = []string{string(job.TransportNFC), string(job.TransportDatastore), string(job.TransportNFC902), string(job.TransportVDDK), string(job.TransportAuto)}
	case "for":
		values = job.Targets[:]
	case "verify":
		values = []string{string(job.VerifyFull), string(job.VerifyManifest)}
	case "vm":
		if u, err := vsphere.ParseURL(a.getenv("GOVC_URL")); err == nil {
			values = rememberedInventory(u.Host)
		}
	case "profile":
		store, err := profile.Open("")
		if err != nil {
			return nil, true
		}
		saved, err := store.List()
		if err != nil {
			return nil, true
		}
		for _, p := range saved {
			values = append(values, p.Name)
		}
	case "columns", "sort":
		values = columnNames()
	default:
		return nil, false
	}
	return values, true
}
