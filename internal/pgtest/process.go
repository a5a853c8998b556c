//go:build unix

package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// supervisorScript stops the cluster in the folder $1 and removes it once its standard input ends. Signals meant for
// the process that started it, such as an interrupt from the terminal, do not reach it.
const supervisorScript = `
trap '' INT TERM HUP QUIT
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
	for p in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null) "$pid"; do kill -CONT "$p"; done
	kill -QUIT "$pid"
	n=0
	while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
	kill -KILL "$pid"
fi
n=0
until rm -rf -- "$1" || [ $n -ge 20 ]; do sleep 0.1; n=$((n+1)); done
`

// releaseTimeout bounds the wait for a supervisor whose server is down already.
const releaseTimeout = 30 * time.Second

// supervisor is the process that outlives this one by a moment to clean up after it.
type supervisor struct {
	cmd  *exec.Cmd
	hold *os.File // the pipe's end that the supervisor waits on
}

// supervise starts a supervisor of the cluster in dir.
func supervise(dir string, owner *account) (*supervisor, error) {
	r, w, err := os.Pipe() // closed on exec: no child of this process can hold it open
	if err != nil {
		return nil, fmt.Errorf("start supervisor of test server: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", supervisorScript, "sh", dir)
	cmd.Stdin = r // but not this process's standard output and error: `go test` would wait for them
	cmd.Dir = "/"
	cmd.SysProcAttr = owner.attributes()
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start supervisor of test server: %w", err), w.Close())
	}
	return &supervisor{cmd: cmd, hold: w}, nil
}

// release lets the supervisor remove the folder and waits for it to end.
func (s *supervisor) release() error {
	err := s.hold.Close()
	kill := time.AfterFunc(releaseTimeout, func() { _ = s.cmd.Process.Kill() }) // Wait reports it
	defer kill.Stop()
	if wait := s.cmd.Wait(); wait != nil {
		err = errors.Join(err, fmt.Errorf("end supervisor of test server: %w", wait))
	}
	return err
}

// account is a user that root drops to. A nil account is the process's own.
type account struct{ uid, gid int }

// unprivileged returns the account to run a server as: nil unless this process is root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := osuser.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, fmt.Errorf("find a user for the test server: %w", err)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return nil, fmt.Errorf("find a user for the test server: %w", err)
		}
		return &account{uid: uid, gid: gid}, nil
	}
	return nil, errors.New("find a user for the test server: there is neither postgres nor nobody, and it does not run as root")
}

// attributes put a process into a session of its own, away from the terminal's signals, as the account.
func (a *account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// writeFile writes a file that only the account may read.
func (a *account) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return a.own(path)
}

func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// command prepares a run of one of the server's binaries. It takes nothing of this process's environment but the PATH:
// a PGHOST or PGDATA of the developer's is not for the tests.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + s.dir}
	if path := libraries(s.bin); path != "" {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+path)
	}
	cmd.SysProcAttr = s.owner.attributes()
	return cmd
}

// maxSocketDir keeps the socket's path within the 107 bytes that Unix sockets allow.
const maxSocketDir = 85

// tempDir creates a folder that the account owns, can reach, and can remove.
func tempDir(owner *account) (string, error) {
	var errs []error
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if owner != nil {
			if err := reachable(parent); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		dir, err := os.MkdirTemp(parent, "tallyman-pg-")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(dir) > maxSocketDir {
			errs = append(errs, fmt.Errorf("%s is too long for a Unix socket", dir), os.Remove(dir))
			continue
		}
		return dir, owner.own(dir)
	}
	return "", errors.Join(errs...)
}

// reachable fails unless every user may pass through dir's ancestors and remove what is theirs from dir.
func reachable(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	need := os.FileMode(0o003) // write and search; the sticky bit of /tmp lets an owner remove what is theirs
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&need != need {
			return fmt.Errorf("%s is closed to other users", dir)
		}
		if dir == "/" {
			return nil
		}
		dir, need = filepath.Dir(dir), 0o001
	}
}

// children returns the processes whose parent is pid.
func children(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	if len(stats) == 0 {
		return nil, errors.New("list processes: there is no /proc")
	}
	var pids []int
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		// "pid (name) state parent …": the name may hold anything, so count from its closing parenthesis.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}
