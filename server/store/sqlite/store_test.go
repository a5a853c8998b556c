package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallyman-dev/tallyman/migrations"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// uploaded makes a finished job of some batches of one item each.
func uploaded(t *testing.T, s *Store, id string, batches int) int64 {
	t.Helper()
	up, err := s.OpenUpload(t.Context(), store.NewJob{UploadID: id, Project: "project", Kind: "annotations", Mode: "replace"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CommitIngest(t.Context(), group1(up, batches)); err != nil {
		t.Fatal(err)
	}
	return up.JobID
}

// group1 is a last group of batches of one item each.
func group1(up store.Upload, batches int) store.IngestGroup {
	g := store.IngestGroup{JobID: up.JobID, Epoch: up.Epoch, Position: up.Position, Finished: true}
	for range batches {
		g.Position.Item++
		g.Position.Offset++
		g.Batches = append(g.Batches, store.NewBatch{
			FirstItem: g.Position.Item, Items: 1, Weight: 1, Documents: []string{fmt.Sprint("PMC:", g.Position.Item)},
			Frame: make([]byte, 1000),
		})
	}
	return g
}

func claimed(t *testing.T, s *Store, jobID int64, lease time.Duration) []store.Grant {
	t.Helper()
	id, _, err := s.RegisterSession(t.Context(), store.Session{WorkerID: "worker"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), lease, []store.ClaimRequest{{SessionID: id, RequestID: "r", Max: 100}},
		[]store.Turn{{JobID: jobID, Most: 100}})
	if err != nil {
		t.Fatal(err)
	}
	return got.Grants[0]
}

// advance moves the clock of a synctest bubble.
func advance(d time.Duration) { <-time.After(d) }

// Under a clock that stands still but for the test's own waiting, times are exact.
func TestTimesAreTheProcessClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		jobID := uploaded(t, s, "a", 1)
		g := claimed(t, s, jobID, 30*time.Second)[0]
		b, _, err := s.GetBatch(t.Context(), g.BatchID)
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Now().Add(30 * time.Second); !b.LeaseExpiresAt.Equal(want) {
			t.Errorf("the lease ends at %v, want %v", b.LeaseExpiresAt, want)
		}
		advance(30*time.Second - time.Microsecond)
		if r, err := s.Reap(t.Context(), nil, 10); err != nil || len(r.Ended) != 0 || !r.Now.Equal(time.Now()) {
			t.Errorf("reaped a microsecond early: %+v, %v", r, err)
		}
		advance(time.Microsecond)
		if r, err := s.Reap(t.Context(), nil, 10); err != nil || len(r.Ended) != 1 || r.Ended[0].Kind != job.EndLost {
			t.Errorf("reaped on time: %+v, %v", r, err)
		}
		again := claimed(t, s, jobID, time.Minute)
		failed := store.Settlement{Lease: again[0].Lease, End: job.End{Kind: job.EndFailed, Retryable: true}}
		if _, _, err := s.Settle(t.Context(), []store.Settlement{failed}); err != nil {
			t.Fatal(err)
		}
		if b, _, err = s.GetBatch(t.Context(), g.BatchID); err != nil {
			t.Fatal(err)
		}
		advance(time.Until(b.AvailableAt) - time.Microsecond)
		if got := claimed(t, s, jobID, time.Minute); len(got) != 0 {
			t.Errorf("granted %+v a microsecond before the backoff's end", got)
		}
		advance(time.Microsecond)
		if got := claimed(t, s, jobID, time.Minute); len(got) != 1 {
			t.Errorf("granted %+v at the backoff's end, want the batch", got)
		}
	})
}

func TestOpenChecksTheSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "odd name?#%41.db")
	if s, err := Open(t.Context(), Config{Path: path}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("opening a file that is not there: %v, %v; want ErrUnavailable", s, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the file was made without being asked for: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), Config{Path: path}); !errors.Is(err, store.ErrSchema) {
		t.Fatalf("opening an empty file: %v, %v; want ErrSchema", s, err)
	}
	first, err := Open(t.Context(), Config{Path: path, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	id, err := first.ClusterID(t.Context())
	if err != nil || len(id) != 36 {
		t.Fatalf("cluster id %q, %v", id, err)
	}
	wanted, err := migrations.Wanted(migrations.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []int64{wanted + 1} {
		_, err := first.writer.db.ExecContext(t.Context(), "INSERT INTO "+migrations.VersionTable+" (version_id, is_applied) VALUES (?, 1)", version)
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Check(t.Context()); !errors.Is(err, store.ErrSchema) {
			t.Errorf("check of version %d: %v, want ErrSchema", version, err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), Config{Path: path, Migrate: true}); !errors.Is(err, store.ErrSchema) {
		t.Fatalf("opening a newer schema: %v, %v; want ErrSchema", s, err)
	}
}

func TestDataOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	c := Config{Path: filepath.Join(t.TempDir(), "tallyman.db"), Migrate: true}
	var cluster string
	var jobID int64
	for run := range 2 {
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		id, err := s.ClusterID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if run == 0 {
			cluster, jobID = id, uploaded(t, s, "a", 3)
		} else if id != cluster {
			t.Errorf("cluster %s, then %s", cluster, id)
		} else if j, _, err := s.Fold(t.Context(), jobID); err != nil || j.ItemsTotal != 3 {
			t.Errorf("job after the restart: %+v, %v", j, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnotherProcessThatHoldsTheFileIsReported(t *testing.T) {
	t.Parallel()
	c := Config{Path: filepath.Join(t.TempDir(), "tallyman.db"), Migrate: true, BusyTimeout: 50 * time.Millisecond}
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	jobID := uploaded(t, s, "a", 1)
	other, err := sql.Open("sqlite", c.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := other.Close(); err != nil {
			t.Errorf("close the other: %v", err)
		}
	}()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	_, err = s.StopJob(t.Context(), jobID, job.Cancelled, "")
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("write while another process writes: %v", err)
	}
	if _, err := s.GetJob(t.Context(), jobID); err != nil {
		t.Errorf("read while another process writes: %v", err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err = s.StopJob(t.Context(), jobID, job.Cancelled, ""); err != nil {
		t.Errorf("write after it let go: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func closed(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close store: %v", err)
	}
}

func TestAFullDiskIsReportedAndOvercome(t *testing.T) {
	t.Parallel()
	s := opened(t)
	limit := func(pages int) {
		t.Helper()
		err := s.write(t.Context(), keeping, func(tx *tx) error {
			return one(tx, []any{&pages}, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	up, err := s.OpenUpload(t.Context(), store.NewJob{UploadID: "a", Project: "project", Kind: "annotations", Mode: "replace"})
	if err != nil {
		t.Fatal(err)
	}
	limit(1) // which means as many as there are
	g := group1(up, 200)
	if err := s.CommitIngest(t.Context(), g); !errors.Is(err, store.ErrFull) {
		t.Fatalf("commit on a full disk: %v, want ErrFull", err)
	}
	if j, _, err := s.Fold(t.Context(), up.JobID); err != nil || j.ItemsTotal != 0 {
		t.Errorf("after the failure the job has %d items, %v", j.ItemsTotal, err)
	}
	limit(1 << 30)
	if err := s.CommitIngest(t.Context(), g); err != nil {
		t.Fatalf("commit with room again: %v", err)
	}
	if j, _, err := s.Fold(t.Context(), up.JobID); err != nil || j.ItemsTotal != 200 {
		t.Errorf("the job has %d items, %v", j.ItemsTotal, err)
	}
}

// TestRoomIsLookedForByWriting wants a page of the log for each look: nothing less meets a full disk.
func TestRoomIsLookedForByWriting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "room.db")
	s, err := Open(t.Context(), Config{Path: path, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for range 3 {
		before := size()
		if err := s.CheckRoom(t.Context()); err != nil {
			t.Fatal(err)
		}
		if grown := size() - before; grown <= 0 {
			t.Errorf("the log has grown by %d bytes", grown)
		}
	}
}

func TestAFailedWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	s := opened(t)
	jobID := uploaded(t, s, "a", 1)
	before, _, err := s.Fold(t.Context(), jobID)
	if err != nil {
		t.Fatal(err)
	}
	fail := errors.New("in the middle")
	half := func(after func() error) func(*tx) error {
		return func(tx *tx) error {
			if err := tx.stop(jobID, job.Failed, "half"); err != nil {
				return err
			}
			return after()
		}
	}
	if err := s.write(t.Context(), settling, half(func() error { return fail })); !errors.Is(err, fail) {
		t.Errorf("write: %v, want %v", err, fail)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		err := s.write(t.Context(), settling, half(func() error { panic("in the middle") }))
		t.Errorf("write returned %v", err)
	}()
	after, err := s.GetJob(t.Context(), jobID)
	if err != nil || after.State != before.State || after.Revision != before.Revision {
		t.Errorf("the job is %v at revision %d, %v", after.State, after.Revision, err)
	}
	if _, err := s.StopJob(t.Context(), jobID, job.Cancelled, ""); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

func TestOnlyRenewalsDoNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	s := opened(t)
	g := claimed(t, s, uploaded(t, s, "a", 1), time.Minute)[0]
	level := func() (n int64) {
		t.Helper()
		if err := one(&tx{ctx: t.Context(), w: &s.writer}, []any{&n}, "PRAGMA synchronous"); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const normal, full = 1, 2
	beat := store.Beat{Lease: g.Lease}
	for _, c := range []struct {
		name string
		do   func() error
		want int64
	}{
		{"claim", func() error { return nil }, full},
		{"renewal", func() error { _, _, err := s.Beat(t.Context(), time.Minute, []store.Beat{beat}); return err }, normal},
		{"touch", func() error { _, err := s.TouchSessions(t.Context(), []int64{g.SessionID}); return err }, normal},
		{"outcomes", func() error {
			b := beat
			b.Outcomes = []job.Run{{Count: 1, Outcome: job.Stored}}
			_, _, err := s.Beat(t.Context(), time.Minute, []store.Beat{b, beat})
			return err
		}, full},
	} {
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := level(); got != c.want {
			t.Errorf("%s was committed with synchronous = %d, want %d", c.name, got, c.want)
		}
	}
}

func TestListenWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		err := s.Listen(ctx, func(c store.Change) { t.Errorf("change %+v", c) })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("listen returned %v after %v", err, time.Since(start))
		}
	})
}

func TestAnUnknownDeltaStays(t *testing.T) {
	t.Parallel()
	s := opened(t)
	jobID := uploaded(t, s, "a", 1)
	before, _, err := s.Fold(t.Context(), jobID)
	if err != nil {
		t.Fatal(err)
	}
	claimed(t, s, jobID, time.Minute)
	err = s.write(t.Context(), keeping, func(tx *tx) error {
		return tx.exec("INSERT INTO job_deltas (job_id, delta) VALUES (?, ?)", jobID, []byte{255, 1, 2})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, changed, err := s.Fold(t.Context(), jobID); changed || !errors.Is(err, job.ErrDelta) {
		t.Errorf("fold: changed %v, %v; want ErrDelta", changed, err)
	}
	if n := rows(t, s)["job_deltas"]; n != 2 {
		t.Errorf("%d deltas are left, want 2", n)
	}
	if after, err := s.GetJob(t.Context(), jobID); err != nil || after.Revision != before.Revision {
		t.Errorf("revision %d after %d, %v", after.Revision, before.Revision, err)
	}
}
