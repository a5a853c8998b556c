//go:build !linux

package bench

import "syscall"

// withParent returns no attributes: there is no way to tie a process to this one that is worth its code in a bench.
func withParent() *syscall.SysProcAttr { return nil }
