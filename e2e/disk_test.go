//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/sample"
)

// disk is a small file system of its own, most of which a file takes up.
type disk struct {
	t       testing.TB
	pid     int    // of the process that sees it
	path    string // where it does
	ballast string // the file, as others see it
}

const (
	diskMiB    = 40
	ballastMiB = 34
)

// runTimeout bounds a run of the whole collection, which takes long under the race detector.
func runTimeout() time.Duration {
	if raceEnabled {
		return 4 * jobTimeout
	}
	return jobTimeout
}

// newDisk mounts a disk where only a process of this test sees it, so that it goes with that. It skips the test where that
// is not possible.
func newDisk(t testing.TB) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: nothing is proved about full disks, since only root may mount one")
	}
	for _, tool := range []string{"unshare", "nsenter", "setpriv", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: nothing is proved about full disks, since %s is missing (Debian's packages mount, util-linux)", tool)
		}
	}
	at := t.TempDir()
	const mount = `mount -t tmpfs -o size="$0"m tallyman "$1" && exec cat`
	n := &network{t: t} // for what holds a namespace until the test ends
	holder, err := n.hold([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", mount, strconv.Itoa(diskMiB), at})
	if err != nil {
		t.Skipf("SKIPPED: nothing is proved about full disks, since this process may mount none: %v", err)
	}
	d := &disk{t: t, pid: holder.pid, path: at}
	d.ballast = filepath.Join("/proc", strconv.Itoa(holder.pid), "root", at, "ballast")
	if err := os.WriteFile(d.ballast, make([]byte, ballastMiB<<20), 0o600); err != nil {
		t.Skipf("SKIPPED: nothing is proved about full disks, since this process may not reach the one it made: %v", err)
	}
	return d
}

// entering is the beginning of a command line that runs the rest where the disk is seen, and has it end with the test.
func (d *disk) entering() []string {
	return []string{"nsenter", "--mount", "--target", strconv.Itoa(d.pid), "setpriv", "--pdeathsig", "KILL"}
}

// tallyman runs a command to its end, which must be with a code, and to say something on either output.
func (d *disk) tallyman(code int, text string, args ...string) {
	d.t.Helper()
	p := start(d.t, "tallyman "+args[0], command{args: args, disk: d})
	got := p.wait(runTimeout())
	if said := p.stdout.String() + p.stderr.String(); got != code || !strings.Contains(said, text) {
		d.t.Errorf("tallyman %s: exit code %d, want %d, and %q in:\n%s", strings.Join(args, " "), got, code, text, said)
	}
}

// makeRoom removes the file.
func (d *disk) makeRoom() {
	d.t.Helper()
	if err := os.Remove(d.ballast); err != nil {
		d.t.Fatal(err)
	}
}

// manifold makes a collection that does not fit on a disk with its file.
func manifold(t testing.TB) (string, sample.Summary) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "items.jsonl")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	made, err := sample.Generate(file, sample.Config{Documents: 7000})
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, made
}

// says waits until a process has said something.
func (p *process) says(text string) {
	p.t.Helper()
	eventually(p.t, jobTimeout, p.name+" to say "+text, func() bool { return strings.Contains(p.stderr.String(), text) || !p.running() })
	if !strings.Contains(p.stderr.String(), text) {
		p.t.Fatalf("%s ended without saying %s", p.name, text)
	}
}

const (
	saysFull  = "the database has no space left: nothing is taken in, given out or recorded"
	saysAgain = "the database has space again"
)

// TestFullDiskOfTheDatabase fills the disk of a run: it says so once, others can look but change nothing, and it goes on by
// itself when there is room.
func TestFullDiskOfTheDatabase(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	path, made := manifold(t)
	data := filepath.Join(d.path, "data")
	run := start(t, "run", command{disk: d, args: []string{"run", path, "--project", project, "--data", data,
		"--store", "sqlite:" + filepath.Join(t.TempDir(), "annotations.db")}})
	run.says(saysFull)
	d.tallyman(1, "NOT SERVING: the coordinator's database has no space left", "health", "--data", data)
	d.tallyman(0, "running", "jobs", "--data", data)
	d.tallyman(1, "has no space left, and nothing can be changed in it; make room", "cancel", "1", "--yes", "--data", data)
	d.makeRoom()
	if code := run.wait(runTimeout()); code != 0 {
		t.Errorf("the run ended with code %d, want 0", code)
	}
	log := run.stderr.String()
	// The run may be over before it looks for room again.
	if full, again, all := strings.Count(log, saysFull), strings.Count(log, saysAgain), strings.Count(log, "level=ERROR"); full != 1 ||
		again > 1 || all != 1 {
		t.Errorf("said %d times that the disk is full and %d times that it is not, in %d errors; want once, and at most once", full, again, all)
	}
	d.tallyman(0, strconv.FormatInt(made.Items, 10), "jobs", "--data", data)
}

// TestFullDiskAndCtrlC interrupts a run on a full disk, and goes on with what it says when there is room.
func TestFullDiskAndCtrlC(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	path, _ := manifold(t)
	data, store := filepath.Join(d.path, "data"), "sqlite:"+filepath.Join(t.TempDir(), "annotations.db")
	run := start(t, "run", command{disk: d, args: []string{"run", path, "--project", project, "--data", data, "--store", store}})
	run.says(saysFull)
	run.signal(syscall.SIGINT)
	if code := run.wait(endTimeout); code != 130 {
		t.Errorf("the interrupted run ended with code %d, want 130", code)
	}
	hint := regexp.MustCompile(`(?m)^ *tallyman (run .*--resume .*)$`).FindStringSubmatch(run.stderr.String())
	if hint == nil {
		t.Fatal("the interrupted run does not say how to go on")
	}
	d.tallyman(0, "running", "jobs", "--data", data)
	d.makeRoom()
	d.tallyman(0, "job 1 succeeded", append(strings.Fields(hint[1]), "--store", store)...)
}

// TestFullDiskOfTheAnnotations fills the disk of the annotation store: no attempt is used up, and who asks is told why.
func TestFullDiskOfTheAnnotations(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	path, _ := manifold(t)
	data := filepath.Join(t.TempDir(), "data")
	run := start(t, "run", command{disk: d, args: []string{"run", path, "--project", project, "--data", data, "--max-attempts", "1",
		"--store", "sqlite:" + filepath.Join(d.path, "annotations.db")}})
	run.says("worker lacks what it needs")
	d.tallyman(1, "ALARM: 1 of 1 worker cannot work for want of what they need, as worker embedded", "health", "--data", data)
	d.tallyman(0, "its disk is full", "workers", "embedded", "--data", data)
	d.makeRoom()
	if code := run.wait(runTimeout()); code != 0 {
		t.Errorf("the run ended with code %d, want 0", code)
	}
	log := run.stderr.String()
	// The run may end before the beat that would say so.
	if lacks, again := strings.Count(log, "worker lacks what it needs"), strings.Count(log, "worker has again what it needs"); lacks != 1 ||
		again > 1 {
		t.Errorf("said %d times that something is missing and %d times that it is there again, want once and at most once", lacks, again)
	}
}
