package vsphere

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrPattern: a reference looks like a pattern, and is none.
var ErrPattern = errors.New("not a pattern")

// IsPattern reports whether ref may mean several VMs: it has a *, ? or [, or an
// element "..." of a path.
func IsPattern(ref string) bool {
	return strings.ContainsAny(ref, "*?[") || strings.Contains("/"+ref+"/", "/.../")
}

// Select returns the VMs of a list that ref means. A reference as [Client.Find]
// takes it is one VM, also when its name has characters of a pattern. Otherwise it
// may be a pattern as govc has them: * and ? stand for characters of one name, [a-z]
// for one of them, "..." for any number of folders. A pattern without a slash is for
// names, one with a slash for inventory paths or their ends. datacenter is as
// [Config].Datacenter.
//
// Errors: [*NotFoundError], [*AmbiguousError], [ErrPattern].
func Select(vms []VM, ref, datacenter string) ([]VM, error) {
	if !IsPattern(ref) || len(match(vms, ref, datacenter)) == 1 {
		vm, err := pick(vms, ref, datacenter)
		if err != nil {
			return nil, err
		}
		return []VM{vm}, nil
	}
	elements := strings.Split(strings.Trim(ref, "/"), "/")
	for _, e := range elements {
		if _, err := path.Match(e, ""); err != nil {
			return nil, fmt.Errorf("%q is %w: a [ has no ], or a backslash nothing after it", ref, ErrPattern)
		}
	}
	var out []VM
	for _, vm := range vms {
		if selects(elements, strings.HasPrefix(ref, "/"), vm, datacenter) {
			out = append(out, vm)
		}
	}
	if len(out) == 0 {
		return nil, &NotFoundError{Ref: ref}
	}
	return out, nil
}

// selects reports whether the elements of a pattern mean vm.
func selects(elements []string, absolute bool, vm VM, datacenter string) bool {
	names := strings.Split(strings.TrimPrefix(vm.Path, "/"), "/")
	switch {
	case absolute:
		return matchElements(elements, names)
	case !vm.in(datacenter):
		return false
	case len(elements) == 1 && elements[0] != "...":
		return matchName(elements[0], vm.Name)
	}
	for i := range names {
		if matchElements(elements, names[i:]) {
			return true
		}
	}
	return false
}

// matchElements matches the elements of a path, in which "..." is any number of them.
func matchElements(pattern, names []string) bool {
	switch {
	case len(pattern) == 0:
		return len(names) == 0
	case pattern[0] == "...":
		for i := range len(names) + 1 {
			if matchElements(pattern[1:], names[i:]) {
				return true
			}
		}
		return false
	}
	return len(names) > 0 && matchName(pattern[0], names[0]) && matchElements(pattern[1:], names[1:])
}

// matchName matches one name, as vSphere stores it or as people know it.
func matchName(pattern, name string) bool {
	stored, _ := path.Match(pattern, name) // Select has looked for a bad pattern
	known, _ := path.Match(pattern, unescapeName(name))
	return stored || known
}

// in reports whether the VM is in a datacenter that is given by name or path; ""
// is any.
func (vm VM) in(datacenter string) bool {
	return datacenter == "" || vm.Datacenter == datacenter || strings.HasSuffix(vm.Datacenter, "/"+strings.TrimPrefix(datacenter, "/"))
}
