//go:build unix

package process_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

// programs are what this test can be run as.
var programs = map[string]func(){
	"eater": eat, "daemon": leave, "worker-to-kill": work,
}

// eat answers its first item, and takes 200 MiB of memory for another one, in a process of its own.
func eat() {
	if len(os.Args) > 2 {
		held := make([]byte, 200<<20)
		for i := 0; i < len(held); i += 4096 {
			held[i] = 1
		}
		select {}
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	fmt.Println("{}")
	lines.Scan()
	fmt.Fprintln(os.Stderr, exec.Command(os.Args[0], "eater", "more").Run())
}

// leave dies over its second item, and leaves a process behind that has left its group and holds its pipes, until the file
// that it is given is written to.
func leave() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	fmt.Println("{}")
	lines.Scan()
	cmd := exec.Command("cat", os.Args[2])
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(9)
}

// work is a worker that has a batch handled by the command it is given, until somebody kills it.
func work() {
	h, err := process.New(process.Config{Command: os.Args[2]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	_, err = worker.Try(context.Background(), h, items(`1`))
	fmt.Fprintln(os.Stderr, err)
}
