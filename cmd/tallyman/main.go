// Command tallyman takes annotation collections of any size, cuts them into batches, hands the batches to workers and
// accounts for every item. It is the coordinator, the worker and the tool to speak with them; `tallyman --help` lists
// what it does.
package main

import (
	"os"
	"runtime/debug"
)

// version is stamped in by the linker.
var version string

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// programVersion returns the version that was stamped in, or else that of the module, for programs made by go install.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
