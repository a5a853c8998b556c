//go:build unix

package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

// victim is the variable that turns this test binary into a process that starts a server and waits to be killed.
const victim = "TALLYMAN_PGTEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victim) != "" {
		beKilled()
	}
	os.Exit(m.Run())
}

// beKilled starts a server, prints its connection string, and waits for the end of standard input, which does not come.
func beKilled() {
	server, err := pgtest.Start(context.Background(), pgtest.Config{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.DSN("postgres"))
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	os.Exit(1)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
	return conn
}

func exec1(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func values(t *testing.T, conn *pgx.Conn, query string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return got
}

func TestDatabaseForEachTest(t *testing.T) {
	var migrations atomic.Int32
	migrate := func(ctx context.Context, dsn string) error {
		migrations.Add(1)
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `CREATE TABLE cargo (name text); INSERT INTO cargo VALUES ('crate')`)
		return errors.Join(err, conn.Close(ctx))
	}
	var names []string
	t.Run("tests", func(t *testing.T) {
		for range 4 {
			conn := connect(t, pgtest.DSN(t, "cargo", migrate))
			names = append(names, values(t, conn, `SELECT current_database()::text`)...)
			t.Run("", func(t *testing.T) {
				t.Parallel()
				conn := connect(t, pgtest.DSN(t, "cargo", migrate))
				exec1(t, conn, `INSERT INTO cargo VALUES ('barrel')`)
				if diff := cmp.Diff([]string{"barrel", "crate"}, values(t, conn, `SELECT name FROM cargo ORDER BY name`)); diff != "" {
					t.Error(diff)
				}
			})
		}
	})
	if got := migrations.Load(); got != 1 {
		t.Errorf("the template was migrated %d times, want once", got)
	}
	conn := connect(t, pgtest.DSN(t, "", nil))
	if left := values(t, conn, `SELECT datname::text FROM pg_database WHERE datname = ANY($1)`, names); len(left) > 0 {
		t.Errorf("databases outlive their tests: %v", left)
	}
}

// A server restarted after a stop of either kind has its committed data and its address.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := pgtest.StartServer(t, pgtest.Config{Settings: map[string]string{"work_mem": "1MB"}})
	exec1(t, connect(t, s.DSN("postgres")), `CREATE TABLE cargo (name text)`)
	for i, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		exec1(t, connect(t, s.LoopbackDSN("postgres")), `INSERT INTO cargo VALUES ('crate')`)
		addr := s.Addr()
		if err := s.Stop(mode); err != nil {
			t.Fatal(err)
		}
		if _, err := pgx.Connect(t.Context(), s.DSN("postgres")); err == nil {
			t.Error("a stopped server accepts a connection")
		}
		if err := s.Restart(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		conn := connect(t, s.LoopbackDSN("postgres"))
		if got := len(values(t, conn, `SELECT name FROM cargo`)); got != i+1 {
			t.Errorf("after a restart there are %d rows, want %d", got, i+1)
		}
		if diff := cmp.Diff([]string{"1MB"}, values(t, conn, `SHOW work_mem`)); diff != "" {
			t.Error(diff)
		}
		if s.Addr() != addr {
			t.Errorf("the address changed from %s to %s", addr, s.Addr())
		}
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	s := pgtest.StartServer(t, pgtest.Config{})
	conn := connect(t, s.DSN("postgres"))
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), `SELECT 1`)
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Errorf("a frozen server answers (%v)", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // a frozen server closes like any other
		t.Error(err)
	}
}

// Whatever ends the process that started a server, neither the server nor its files stay.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victim+"=1")
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("%v (it printed %q)", err, line)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(config.Port)))
	if conn, err := net.Dial("tcp", addr); err != nil {
		t.Fatal(err)
	} else if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as intended
	deadline := time.Now().Add(30 * time.Second)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		// Its address tells whether the server lives; its process may stay a zombie where nobody inherits it.
		conn, dialErr := net.Dial("tcp", addr)
		if dialErr == nil {
			_ = conn.Close()
		}
		_, statErr := os.Stat(config.Host)
		if errors.Is(dialErr, syscall.ECONNREFUSED) && errors.Is(statErr, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("30 s after its owner was killed: dial %s: %v, stat %s: %v", addr, dialErr, config.Host, statErr)
		}
		<-ticker.C
	}
}

// Databases that a killed process left on a shared server go when the next process comes; those in use stay.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	s := pgtest.StartServer(t, pgtest.Config{})
	conn := connect(t, s.DSN("postgres"))
	exec1(t, conn, `CREATE DATABASE tallyman_test_dead_1`)
	exec1(t, conn, `CREATE DATABASE tallyman_test_live_1`)
	exec1(t, conn, `CREATE DATABASE kept`)
	exec1(t, conn, `SELECT pg_advisory_lock(('x' || encode('live', 'hex') || '00000000')::bit(64)::bigint)`)
	child := exec.Command(os.Args[0], "-test.run=^TestDatabaseForEachTest$")
	child.Env = append(os.Environ(), pgtest.Variable+"="+s.LoopbackDSN("postgres"))
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := []string{"kept", "tallyman_test_live_1"}
	got := values(t, conn, `SELECT datname::text FROM pg_database WHERE datname IN ('kept', 'tallyman_test_dead_1', 'tallyman_test_live_1') ORDER BY 1`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Without binaries a test does not pass and is not skipped: it fails and says what to do.
func TestNoBinaries(t *testing.T) {
	t.Setenv("TALLYMAN_POSTGRES_BIN", t.TempDir())
	if _, err := pgtest.Start(t.Context(), pgtest.Config{}); err == nil {
		t.Error("a server started from an empty folder")
	}
	t.Setenv("TALLYMAN_POSTGRES_BIN", "")
	t.Setenv("TALLYMAN_PG_SEARCH", "none")
	t.Chdir(t.TempDir())
	if _, err := pgtest.Start(t.Context(), pgtest.Config{}); !errors.Is(err, pgtest.ErrNoBinaries) {
		t.Errorf("without binaries: %v, want %v", err, pgtest.ErrNoBinaries)
	}
}
