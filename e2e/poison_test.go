//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// handleArgument makes a process of the tests nothing but a command that handles items, with a folder as its argument. It
// serves in either mode: in mode batch nobody reads its answers.
const handleArgument = "handle-items"

// deed is what an item has the process do that handles it.
type deed string

const (
	harmless   deed = ""
	segfault   deed = "segfault"    // it writes where there is no memory
	once       deed = "once"        // the same, when it sees the item for the first time
	killWorker deed = "kill-worker" // it kills its worker, and not itself
	hang       deed = "hang"
	eat        deed = "eat"    // it takes eaten bytes of memory, and keeps them
	refuse     deed = "refuse" // the item is rejected
	babble     deed = "babble" // it gives an answer that is none
	tire       deed = "tire"   // it exits with the code for a passing problem, so that the attempt fails
	slow       deed = "slow"   // it takes slowness, and is harmless
)

const (
	eaten    = 512 << 20
	slowness = 20 * time.Millisecond
)

// numbered is an item.
type numbered struct {
	N    int64 `json:"n"`
	Deed deed  `json:"deed,omitzero"`
}

// square is the result of a harmless item.
type square struct {
	N      int64 `json:"n"`
	Square int64 `json:"square"`
}

func (it numbered) line() string { return marshal(it) }

func (it numbered) result() string { return marshal(square{it.N, it.N * it.N}) }

// marshal returns v, which has nothing in it that cannot be written, as a line.
func marshal(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text) + "\n"
}

const (
	givenFile = "given" // in the folder of a command: the number of every item that it was given, a line each
	curedFile = "cured" // while it is there, no item does harm
)

// handleItems is what a process does that is to handle items.
func handleItems(dir string) error {
	given, err := os.OpenFile(filepath.Join(dir, givenFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an item: %w", err)
		}
		var it numbered
		if err := json.Unmarshal(line, &it); err != nil {
			return fmt.Errorf("read an item: %w", err)
		}
		if _, err := given.WriteString(strconv.FormatInt(it.N, 10) + "\n"); err != nil {
			return err
		}
		if _, err := os.Stdout.WriteString(it.handle(dir)); err != nil {
			return err
		}
	}
}

// handle does what an item wants, and returns the answer if it still can.
func (it numbered) handle(dir string) string {
	if it.Deed != harmless {
		if _, err := os.Stat(filepath.Join(dir, curedFile)); err == nil {
			it.Deed = harmless
		}
	}
	switch it.Deed {
	case segfault:
		fmt.Fprintf(os.Stderr, "libnative: item %d is too much\n", it.N)
		fault()
	case once:
		mark, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("once-%d", it.N)), os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_ = mark.Close()
			fault()
		}
	case killWorker:
		worker := os.Getppid()
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", worker)); err == nil && string(comm) == "tallyman\n" {
			_ = syscall.Kill(worker, syscall.SIGKILL)
		}
		halt()
	case hang:
		halt()
	case eat:
		var held [][]byte
		for range eaten / (16 << 20) {
			held = append(held, bytes.Repeat([]byte{1}, 16<<20))
		}
		fmt.Fprintf(os.Stderr, "it holds %d pieces\n", len(held))
		halt()
	case refuse:
		return `{"error":"nobody wants it"}` + "\n"
	case babble:
		return "bla\n"
	case tire:
		os.Exit(75)
	case slow:
		<-time.After(slowness)
	case harmless:
	}
	return fmt.Sprintf("{\"result\":%s}\n", strings.TrimSpace(it.result()))
}

// nowhere is where there is no memory.
var nowhere *int

// fault has the process die as one whose native library has a defect: Go's own handling of SIGSEGV is put out of its way.
func fault() {
	var byDefault [4]uint64 // as the kernel has it: what to do, flags, and a mask of signals
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGSEGV), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	*nowhere = 1
}

// halt never returns.
func halt() {
	for {
		_ = syscall.Pause() // a signal ends it
	}
}

// poison is a file of items, some of which do harm, and the folder of the command that handles them.
type poison struct {
	t     *testing.T
	dir   string
	path  string
	items []numbered
}

// newPoison makes a file of n items.
func newPoison(t *testing.T, n int64, deeds map[int64]deed) *poison {
	t.Helper()
	dir := t.TempDir()
	p := &poison{t: t, dir: dir, path: filepath.Join(dir, "items.jsonl")}
	var file strings.Builder
	for i := range n {
		it := numbered{N: i + 1, Deed: deeds[i+1]}
		p.items = append(p.items, it)
		file.WriteString(it.line())
	}
	if err := os.WriteFile(p.path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// command returns the flags of the program that have the items handled.
func (p *poison) command(flags ...string) []string {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	// Nobody looks at core dumps.
	return append([]string{"--exec", fmt.Sprintf("ulimit -c 0; exec '%s' %s '%s'", self, handleArgument, p.dir)}, flags...)
}

// cure has no item do harm any more.
func (p *poison) cure() {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, curedFile), nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// given returns how often each item was given to a process.
func (p *poison) given() map[int64]int {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, givenFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	times := make(map[int64]int)
	for line := range strings.Lines(string(text)) {
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		times[n]++
	}
	return times
}

// lines returns the items for which keep holds, as they were uploaded.
func (p *poison) lines(keep func(numbered) bool) string { return p.write(keep, numbered.line) }

// results returns what is to become of the items for which keep holds.
func (p *poison) results(keep func(numbered) bool) string { return p.write(keep, numbered.result) }

func (p *poison) write(keep func(numbered) bool, as func(numbered) string) string {
	var b strings.Builder
	for _, it := range p.items {
		if keep(it) {
			b.WriteString(as(it))
		}
	}
	return b.String()
}
