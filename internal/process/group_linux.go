package process

import (
	"os/exec"
	"syscall"
)

// apart gives the program a process group, which a Ctrl-C at this process's terminal does
// not reach, and has it end with this process.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // none may be left
