package rest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
	"github.com/tallyman-dev/tallyman/worker"
)

// patient bounds every wait of a test.
const patient = time.Minute

// site is a coordinator that serves HTTP, with a worker of kind "test".
type site struct {
	*testing.T
	ctx  context.Context
	base string
	halt func() error // ends the coordinator; may be repeated
}

// onBoth runs a test on a coordinator with SQLite and on one with PostgreSQL.
func onBoth(t *testing.T, test func(s *site)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(open(t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db")}))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(open(t, server.Config{Database: pgtest.DSN(t, "coordinator", postgres.Migrate)}))
	})
}

// open starts a coordinator and its worker, which end with the test.
func open(t *testing.T, cfg server.Config) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patient)
	t.Cleanup(cancel)
	cfg.Migrate, cfg.HTTP = true, "127.0.0.1:0"
	c, err := server.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Config{Conn: conn, WorkerID: "w", Slots: 1, Handlers: map[string]worker.Handler{
		"test": worker.HandlerFunc(judge),
	}})
	if err != nil {
		t.Fatal(err)
	}
	serving, stopServing := context.WithCancel(context.Background())
	working, stopWorking := context.WithCancel(context.Background())
	served, worked := make(chan error, 1), make(chan error, 1)
	go func() { served <- c.Run(serving) }()
	go func() { worked <- w.Run(working) }()
	ended := false
	s := &site{T: t, ctx: ctx, base: "http://" + c.HTTPAddr(), halt: func() error {
		if ended {
			return nil
		}
		ended = true
		stopWorking()
		err := <-worked
		stopServing()
		if e := <-served; err == nil {
			err = e
		}
		return err
	}}
	t.Cleanup(func() {
		if err := s.halt(); err != nil {
			t.Error(err)
		}
		_ = conn.Close() // the server has gone
	})
	return s
}

// judge stores items and gives each its own bytes as its result, but those that speak of evil: they fail.
func judge(_ context.Context, b *worker.Batch) error {
	for _, it := range b.Open() {
		if bytes.Contains(it.Data, []byte("evil")) {
			b.Report(worker.Result{Outcome: worker.Rejected})
			continue
		}
		b.Report(worker.Result{Outcome: worker.Stored, Value: it.Data})
	}
	return nil
}

// answer is what a request was answered with.
type answer struct {
	code   int
	header http.Header
	body   string
}

// do makes a request, with a body unless that is nil.
func (s *site) do(method, path string, body io.Reader, header ...string) answer {
	s.Helper()
	r, err := http.NewRequestWithContext(s.ctx, method, s.base+path, body)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatalf("%s %s: %v after %s", method, path, err, text)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// read decodes an answer of that status.
func (s *site) read(a answer, code int, into any) {
	s.Helper()
	if a.code != code {
		s.Fatalf("answered %d: %s, want %d", a.code, a.body, code)
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		s.Fatalf("%v: %s", err, a.body)
	}
}

// event is one server-sent event.
type event struct{ name, id, data string }

// events reads events until the end of a stream.
func events(t *testing.T, r io.Reader) []event {
	t.Helper()
	var list []event
	var e event
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			if e != (event{}) {
				list = append(list, e)
			}
			e = event{}
		}
	}
	if err := lines.Err(); err != nil {
		t.Errorf("read events: %v", err)
	}
	return list
}
