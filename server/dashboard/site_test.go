package dashboard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
	"github.com/tallyman-dev/tallyman/worker"
)

// site is a coordinator that serves HTTP.
type site struct {
	*testing.T
	ctx         context.Context
	base        string
	coordinator *server.Server
}

// onBoth runs a test on a coordinator with SQLite and on one with PostgreSQL.
func onBoth(t *testing.T, test func(s *site)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(open(t, "sqlite:"+filepath.Join(t.TempDir(), "tallyman.db")))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(open(t, pgtest.DSN(t, "coordinator", postgres.Migrate)))
	})
}

// open starts a coordinator, which ends with the test.
func open(t *testing.T, database string) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patient)
	t.Cleanup(cancel)
	c, err := server.Open(ctx, server.Config{Database: database, Migrate: true, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, ctx: ctx, base: "http://" + c.HTTPAddr(), coordinator: c}
	s.background(c.Run)
	return s
}

// background runs something until the test ends, and waits for it. What began last ends first.
func (s *site) background(run func(ctx context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	s.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.Error(err)
		}
	})
}

// work starts a worker of one kind.
func (s *site) work(id, kind string, slots int, h worker.Handler) {
	s.Helper()
	conn, err := s.coordinator.Dial()
	if err != nil {
		s.Fatal(err)
	}
	w, err := worker.New(worker.Config{Conn: conn, WorkerID: id, Slots: slots, Handlers: map[string]worker.Handler{kind: h}})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	s.background(w.Run)
}

// store stores every item.
func store(_ context.Context, b *worker.Batch) error {
	for range b.Open() {
		b.Report(worker.Result{Outcome: worker.Stored})
	}
	return nil
}

// submit uploads and returns the job's id.
func (s *site) submit(query, body string) string {
	s.Helper()
	resp, err := http.Post(s.base+"/v1/uploads?"+query, "application/octet-stream", strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	var up struct {
		Job struct {
			ID string `json:"job_id"`
		} `json:"job"`
	}
	if err := json.Unmarshal(text, &up); err != nil || up.Job.ID == "" {
		s.Fatalf("upload: %s: %s (%v)", resp.Status, text, err)
	}
	return up.Job.ID
}

// lines makes so many items.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"n\": %d}\n", i+1)
	}
	return b.String()
}
