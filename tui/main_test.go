package tui_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/tui"
)

// asProgram makes the test binary be the program, so that a terminal can run it.
const asProgram = "HYPER2KVM_TEST_TUI"

func TestMain(m *testing.M) {
	what := os.Getenv(asProgram)
	if what == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	o := tui.Options{
		Printer: terminal.New(os.Stdout, os.Stderr), In: os.Stdin, Version: "test",
		ConfigDir: os.Getenv("TEST_CONFIG_DIR"), Daemon: os.Getenv("H2KVM_DAEMON"),
	}
	o.Detach = func() string { return os.Getenv("TEST_DETACH") }
	run := tui.Run
	if what == "watch" {
		run = tui.Watch
	}
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Printf("ENDED BADLY: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("ENDED WELL")
}
