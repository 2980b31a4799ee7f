package qcow2_test

import (
	"testing"

	"go.uber.org/goleak"
)

const (
	mib   = 1 << 20
	gib   = 1 << 30
	tib   = 1 << 40
	grain = 64 << 10
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
