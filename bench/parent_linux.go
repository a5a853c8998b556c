package bench

import "syscall"

// withParent returns attributes of a process that the kernel ends when this one is gone, however that came about.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
