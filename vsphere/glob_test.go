package vsphere_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func TestPatternsSelectByNameAndByInventoryPathAsGovcDoes(t *testing.T) {
	t.Parallel()
	var vms []vsphere.VM
	for _, p := range []string{
		"/DC0/vm/prod/erp-01", "/DC0/vm/prod/erp-02", "/DC0/vm/prod/db/erp-db", "/DC0/vm/test/erp-01",
		"/DC0/vm/web[1]", "/DC0/vm/web1", "/DC0/vm/a%2fb", "/DC1/vm/prod/erp-09",
	} {
		dc, name := p[:4], p[1+slicesLast(p):]
		vms = append(vms, vsphere.VM{Ref: p, Path: p, Name: name, Datacenter: dc})
	}
	for _, c := range []struct {
		ref, datacenter string
		want            []string
	}{
		{"erp-*", "", []string{"/DC0/vm/prod/erp-01", "/DC0/vm/prod/erp-02", "/DC0/vm/prod/db/erp-db", "/DC0/vm/test/erp-01", "/DC1/vm/prod/erp-09"}},
		{"erp-0[12]", "", []string{"/DC0/vm/prod/erp-01", "/DC0/vm/prod/erp-02", "/DC0/vm/test/erp-01"}},
		{"erp-??", "DC1", []string{"/DC1/vm/prod/erp-09"}},
		{"prod/*", "", []string{"/DC0/vm/prod/erp-01", "/DC0/vm/prod/erp-02", "/DC1/vm/prod/erp-09"}},
		{"/DC0/vm/prod/*", "", []string{"/DC0/vm/prod/erp-01", "/DC0/vm/prod/erp-02"}},
		{"/DC0/vm/prod/...", "", []string{"/DC0/vm/prod/erp-01", "/DC0/vm/prod/erp-02", "/DC0/vm/prod/db/erp-db"}},
		{"/*/vm/.../erp-0?", "", []string{"/DC0/vm/prod/erp-01", "/DC0/vm/prod/erp-02", "/DC0/vm/test/erp-01", "/DC1/vm/prod/erp-09"}},
		{"/DC0/.../erp-01", "", []string{"/DC0/vm/prod/erp-01", "/DC0/vm/test/erp-01"}},
		{"web[1]", "", []string{"/DC0/vm/web[1]"}}, // a name that looks like a pattern
		{"web?", "", []string{"/DC0/vm/web1"}},
		{"web*", "", []string{"/DC0/vm/web[1]", "/DC0/vm/web1"}},
		{"a?b", "", nil},
		{"a*b", "", []string{"/DC0/vm/a%2fb"}},
		{"/DC0/vm/prod/erp-01", "", []string{"/DC0/vm/prod/erp-01"}},
	} {
		found, err := vsphere.Select(vms, c.ref, c.datacenter)
		var got []string
		for _, vm := range found {
			got = append(got, vm.Path)
		}
		if !slices.Equal(got, c.want) || (len(c.want) == 0) != errors.Is(err, vsphere.ErrNotFound) {
			t.Errorf("%q in %q: %q, %v, want %q", c.ref, c.datacenter, got, err, c.want)
		}
	}
	if _, err := vsphere.Select(vms, "erp-01", ""); !errors.As(err, new(*vsphere.AmbiguousError)) {
		t.Errorf("a name of two VMs: %v", err)
	}
	for _, bad := range []string{"[a", "/DC0/vm/[", `*\`} {
		if found, err := vsphere.Select(vms, bad, ""); err == nil || errors.Is(err, vsphere.ErrNotFound) {
			t.Errorf("%q: %v, %v", bad, found, err)
		}
	}
}

func slicesLast(p string) int {
	for i := len(p) - 1; ; i-- {
		if p[i] == '/' {
			return i
		}
	}
}
