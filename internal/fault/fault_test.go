package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

func TestAMarkedErrorStaysWhatItWasAndKeepsItsMarksWhenWrapped(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("disk 1: %w", fault.Permanent(fault.WithHint(io.ErrShortWrite, "free some space")))
	if !errors.Is(err, io.ErrShortWrite) || err.Error() != "disk 1: short write" {
		t.Errorf("the error became %v", err)
	}
	if !fault.IsPermanent(err) || fault.Hint(err) != "free some space" {
		t.Errorf("permanent %t, hint %q", fault.IsPermanent(err), fault.Hint(err))
	}
}

func TestAnErrorWithoutMarksIsNeitherPermanentNorHasItAdvice(t *testing.T) {
	t.Parallel()
	if fault.IsPermanent(io.EOF) || fault.Hint(io.EOF) != "" || fault.IsPermanent(nil) || fault.Hint(nil) != "" {
		t.Error("it has marks")
	}
	if fault.Permanent(nil) != nil || fault.WithHint(nil, "x") != nil {
		t.Error("no error became one")
	}
}
