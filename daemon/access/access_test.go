package access_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

func TestAHigherRoleMayDoAllThatALowerOneMay(t *testing.T) {
	t.Parallel()
	roles := []access.Role{access.Nobody, access.Viewer, access.Operator, access.Admin}
	for i, have := range roles {
		for j, least := range roles {
			want := i >= j && least != access.Nobody
			if got := (access.Principal{Role: have}).May(least); got != want {
				t.Errorf("%v may do what needs %v: %v", have, least, got)
			}
		}
	}
}

func TestOnlyRolesThatCanBeGivenAreRead(t *testing.T) {
	t.Parallel()
	for _, r := range []access.Role{access.Viewer, access.Operator, access.Admin} {
		if got, err := access.ParseRole(r.String()); err != nil || got != r {
			t.Errorf("%v is read as %v, %v", r, got, err)
		}
	}
	for _, name := range []string{"", "nobody", "Admin", "admin ", "root", "Role(7)"} {
		if got, err := access.ParseRole(name); err == nil || got != access.Nobody {
			t.Errorf("%q is read as %v, %v", name, got, err)
		}
	}
}

func TestAContextThatNobodySpokeForIsOfNobody(t *testing.T) {
	t.Parallel()
	if p := access.FromContext(t.Context()); p.May(access.Viewer) {
		t.Errorf("an empty context is of %v", p)
	}
	if _, ok := access.PeerFrom(t.Context()); ok {
		t.Error("an empty context has a peer")
	}
	want := access.Principal{Name: "ci", Role: access.Operator, Via: access.ViaToken}
	if p := access.FromContext(access.WithPrincipal(t.Context(), want)); p != want {
		t.Errorf("a context of %v is of %v", want, p)
	}
}
