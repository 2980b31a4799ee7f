package vspheretest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// checkCall says what is wrong with a fault on calls of the API.
func (f *fault) checkCall() error {
	if f.call == "" {
		return errors.New("call=METHOD is missing, such as call=ExportVm; call=* is any")
	}
	if _, known := types.TypeFunc()(f.call); !known && f.call != "*" {
		return fmt.Errorf("call=%s: vSphere has no such method", f.call)
	}
	if f.name != "" && newFault(f.name) == nil {
		return fmt.Errorf("fault=%s: vSphere has no such fault", f.name)
	}
	if f.early && f.kind != faultTask {
		return errors.New("effect=first: want true or false, for what is no task")
	}
	switch f.kind {
	case faultTask:
		return f.checkTask()
	case faultLate:
		if f.after <= 0 {
			return errors.New("after=DURATION is missing")
		}
	case faultLose:
		if !slices.Contains([]Outage{"", Reset, Unavailable, HTML}, f.how) {
			return fmt.Errorf("how=%s: want reset, 503 or html", f.how)
		}
	case faultRefuse:
		if f.name == "" {
			return errors.New("fault=NAME is missing, such as fault=SystemError")
		}
	}
	return nil
}

func (f *fault) checkTask() error {
	if taskAnswers[f.call] == nil {
		return fmt.Errorf("call=%s: no task of the lab; for how long a call takes there is late", f.call)
	}
	if f.lasts <= 0 {
		return errors.New("takes=DURATION is missing")
	}
	switch f.cancel {
	case "", "false", "true", "ignore":
		return nil
	}
	return fmt.Errorf("cancel=%s: want true, false or ignore", f.cancel)
}

// strikeCall finds the first rule of the given kinds for a call that is about g,
// which is nil when it is about no VM, and uses it up.
func (s *faultSet) strikeCall(method string, g *guest, kinds ...faultKind) *fault {
	for _, f := range s.find(func(f *fault) bool {
		return slices.Contains(kinds, f.kind) && (f.call == method || f.call == "*") && f.matches(g, f.disk)
	}) {
		if s.take(f) {
			return f
		}
	}
	return nil
}

// newFault makes a fault of vSphere by the name of its type; nil when there is none.
func newFault(name string) types.BaseMethodFault {
	t, ok := types.TypeFunc()(name)
	if !ok || t.Kind() != reflect.Struct {
		return nil
	}
	f, _ := reflect.New(t).Interface().(types.BaseMethodFault)
	return f
}
