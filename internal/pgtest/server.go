//go:build unix

package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	user          = "tallyman"
	startTimeout  = time.Minute      // initdb included, on a busy machine
	stopTimeout   = 20 * time.Second // then the server is killed
	pollInterval  = 5 * time.Millisecond
	logTail       = 4 << 10
	startAttempts = 5 // another process may take the free port first
)

// Mode is a way to stop a server.
type Mode int

// The ways to stop a server.
const (
	Fast      Mode = iota // sessions are rolled back and ended, then a checkpoint is written
	Immediate             // as by a power cut: the next start recovers from the log
)

// Config says how a private cluster is set up. Its zero value works.
type Config struct {
	// Settings are added to postgresql.conf, after those of the package and with precedence over them.
	Settings map[string]string
}

// Server is a private cluster. Its methods may be called from several goroutines; they wait for each other.
type Server struct {
	bin      string
	dir      string
	port     int
	password string
	owner    *account // nil unless root had to drop to another user

	mu         sync.Mutex
	pid        int // of the postmaster, 0 while the server is down
	frozen     []int
	supervisor *supervisor
}

// StartServer starts a private cluster that is stopped and removed when the test ends. It fails the test when that is
// not possible.
func StartServer(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close test server: %v", err)
		}
	})
	return s
}

// Start creates a private cluster in a new temporary folder and returns when it accepts connections, at most a minute
// later. The caller closes it; if the process ends without, or forgets the handle, the cluster ends too.
func Start(ctx context.Context, c Config) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	owner, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := tempDir(owner)
	if err != nil {
		return nil, fmt.Errorf("create folder for test server: %w", err)
	}
	s := &Server{bin: bin, dir: dir, password: rand.Text(), owner: owner}
	if s.supervisor, err = supervise(dir, owner); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.create(ctx, c); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// DSN returns a connection string of one of the server's databases over its Unix socket, as a role that may do
// anything. The database "postgres" always exists.
func (s *Server) DSN(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, s.password), Path: "/" + database}
	u.RawQuery = url.Values{"host": {s.dir}, "port": {strconv.Itoa(s.port)}}.Encode()
	return u.String()
}

// LoopbackDSN is [Server.DSN] over TCP.
func (s *Server) LoopbackDSN(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, s.password), Host: s.Addr(), Path: "/" + database}
	u.RawQuery = url.Values{"sslmode": {"disable"}}.Encode()
	return u.String()
}

// Addr returns the server's loopback address. It stays the same over restarts.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Stop ends the server and returns when it is gone. Stopping a server that is down does nothing.
func (s *Server) Stop(mode Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(mode)
}

// Restart starts the server again on the same port and data, after stopping it in the given mode if it runs, and
// returns when it accepts connections, at most a minute later.
func (s *Server) Restart(ctx context.Context, mode Mode) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(mode); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Freeze halts every process of the server (SIGSTOP) until [Server.Thaw]: its connections stay open and nothing
// answers. Linux only.
func (s *Server) Freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 || s.frozen != nil {
		return errors.New("freeze test server: it is not running")
	}
	// The postmaster first, so that no process is born after the list of its children was read.
	if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze test server: %w", err)
	}
	s.frozen = []int{s.pid}
	processes, err := children(s.pid)
	if err != nil {
		return fmt.Errorf("freeze test server: %w", err)
	}
	for _, pid := range processes {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("freeze test server: %w", err)
		}
		s.frozen = append(s.frozen, pid)
	}
	return nil
}

// Thaw lets a frozen server go on. It does nothing to one that is not frozen.
func (s *Server) Thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thaw()
}

// Close stops the server and removes its files. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.supervisor == nil {
		return nil
	}
	err := errors.Join(s.stop(Immediate), s.supervisor.release(), os.RemoveAll(s.dir))
	s.supervisor = nil
	return err
}

func (s *Server) thaw() error {
	var errs []error
	for _, pid := range slices.Backward(s.frozen) { // the postmaster last, as it was the first to stop
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("thaw test server: %w", err))
		}
	}
	s.frozen = nil
	return errors.Join(errs...)
}

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// create initializes the cluster and starts it for the first time.
func (s *Server) create(ctx context.Context, c Config) error {
	passwords := filepath.Join(s.dir, "password")
	if err := s.owner.writeFile(passwords, s.password); err != nil {
		return fmt.Errorf("write password of test server: %w", err)
	}
	initdb := s.command(ctx, "initdb", "--pgdata", s.data(), "--username", user, "--auth", "scram-sha-256",
		"--pwfile", passwords, "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("create test cluster: %w: %s", err, tail(out))
	}
	conf := filepath.Join(s.data(), "postgresql.conf")
	base, err := os.ReadFile(conf)
	if err != nil {
		return fmt.Errorf("configure test cluster: %w", err)
	}
	for attempt := 1; ; attempt++ {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err := s.owner.writeFile(conf, string(base)+s.settings(c)); err != nil {
			return fmt.Errorf("configure test cluster: %w", err)
		}
		if err = s.launch(ctx); err == nil || attempt == startAttempts || ctx.Err() != nil {
			return err
		}
	}
}

// settings are those of a small server with all the durability of a real one.
func (s *Server) settings(c Config) string {
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": s.dir,
		"max_connections":         "200",
		"shared_buffers":          "128MB",
		"fsync":                   "on",
		"jit":                     "off", // an unpacked server has no compiler library beside it
		"timezone":                "UTC",
		"log_timezone":            "UTC",
	}
	maps.Copy(all, c.Settings)
	var b strings.Builder
	b.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	return b.String()
}

// launch starts the postmaster and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of test server: %w", err)
	}
	defer log.Close()
	// Without ctx: the server outlives this call. It is reaped by wait4 rather than by a goroutine, which a test that
	// looks for leaked goroutines would find.
	postgres := s.command(context.Background(), "postgres", "-D", s.data())
	postgres.Stdout, postgres.Stderr = log, log
	if err := postgres.Start(); err != nil {
		return fmt.Errorf("start test server: %w", err)
	}
	s.pid = postgres.Process.Pid
	if err := postgres.Process.Release(); err != nil {
		return fmt.Errorf("start test server: %w", err)
	}
	return poll(ctx, func() (bool, error) {
		if gone, err := s.reaped(); gone || err != nil {
			return false, errors.Join(fmt.Errorf("start test server: it ended: %s", s.lastWords()), err)
		}
		return s.ready(), nil
	})
}

// ready reports whether the running postmaster has declared itself so in its pid file.
func (s *Server) ready() bool {
	content, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	return len(lines) > 7 && lines[0] == strconv.Itoa(s.pid) && strings.TrimSpace(lines[7]) == "ready"
}

func (s *Server) stop(mode Mode) error {
	if s.pid == 0 {
		return nil
	}
	if err := s.thaw(); err != nil {
		return err
	}
	signal := syscall.SIGINT
	if mode == Immediate {
		signal = syscall.SIGQUIT
	}
	if err := syscall.Kill(s.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop test server: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := poll(ctx, s.reaped)
	if err == nil {
		return nil
	}
	if kill := syscall.Kill(s.pid, syscall.SIGKILL); kill != nil {
		return fmt.Errorf("stop test server: %w", errors.Join(err, kill))
	}
	ctx, cancel = context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(fmt.Errorf("stop test server: it had to be killed: %s", s.lastWords()), poll(ctx, s.reaped))
}

// reaped reports whether the postmaster has ended, and takes note of it.
func (s *Server) reaped() (bool, error) {
	pid, err := syscall.Wait4(s.pid, nil, syscall.WNOHANG, nil)
	if err != nil && !errors.Is(err, syscall.EINTR) {
		return false, fmt.Errorf("wait for test server: %w", err)
	}
	if pid != s.pid {
		return false, nil
	}
	s.pid = 0
	return true, nil
}

func (s *Server) lastWords() []byte {
	content, err := os.ReadFile(s.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return tail(content)
}

func tail(out []byte) []byte {
	out = bytes.TrimSpace(out)
	return out[max(0, len(out)-logTail):]
}

// poll calls done every few milliseconds until it says so, fails, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for test server: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return port, nil
}
