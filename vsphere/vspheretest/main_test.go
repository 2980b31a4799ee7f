package vspheretest_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// govc is built once, by the first test that needs it.
var govc vspheretest.Govc

func TestMain(m *testing.M) {
	code := m.Run()
	govc.Remove()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
