package reach_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/reach"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestALibvirtOfAJobIsOneThatIsListed(t *testing.T) {
	t.Parallel()
	def := job.Definition{VMPath: "vm", Options: job.Options{Landing: job.Landing{Libvirt: "qemu:///system", Pool: "default"}}}
	for name, c := range map[string]struct {
		policy  *reach.Policy
		allowed bool
	}{
		"no policy":                   {nil, false},
		"a daemon of one's own":       {&reach.Policy{}, false},
		"another one is listed":       {&reach.Policy{Libvirt: []string{"qemu:///session", "qemu+unix:///system?socket=/run/x"}}, false},
		"it is listed":                {&reach.Policy{Libvirt: []string{"qemu:///session", "qemu:///system"}}, true},
		"it is listed, and is shared": {&reach.Policy{Libvirt: []string{"qemu:///system"}, Shared: shared}, true},
	} {
		err := c.policy.Admit(def)
		if (err == nil) != c.allowed || err != nil && (!fault.IsPermanent(err) || fault.Hint(err) == "") {
			t.Errorf("%s: %v (%s)", name, err, fault.Hint(err))
		}
	}
}
