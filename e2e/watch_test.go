//go:build linux

package e2e

import (
	"context"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// progression checks that snapshots never go backwards.
type progression struct {
	t    testing.TB
	last *tallymanv1.Job
	seen int
}

func (p *progression) next(job *tallymanv1.Job) {
	p.t.Helper()
	p.seen++
	now := job.GetProgress()
	if p.last != nil {
		before := p.last.GetProgress()
		if job.GetRevision() <= p.last.GetRevision() {
			p.t.Errorf("revision %d after %d", job.GetRevision(), p.last.GetRevision())
		}
		if now.GetItemsEnded() < before.GetItemsEnded() {
			p.t.Errorf("%d items have ended, after %d had", now.GetItemsEnded(), before.GetItemsEnded())
		}
		if now.GetItemsTotal() < before.GetItemsTotal() {
			p.t.Errorf("%d items in all, after %d", now.GetItemsTotal(), before.GetItemsTotal())
		}
		if client.Ended(p.last.GetState()) {
			p.t.Errorf("a snapshot after the end: %v", job)
		}
	}
	if now.GetItemsEnded() > now.GetItemsTotal() {
		p.t.Errorf("%d of %d items have ended", now.GetItemsEnded(), now.GetItemsTotal())
	}
	var sum int64
	for _, n := range outcomes(job) {
		sum += n
	}
	if sum != now.GetItemsEnded() || sum+now.GetItemsOpen() != now.GetItemsTotal() {
		p.t.Errorf("outcomes %d, ended %d, open %d, total %d do not add up", sum, now.GetItemsEnded(), now.GetItemsOpen(), now.GetItemsTotal())
	}
	p.last = job
}

// TestWatch watches a job over a connection that breaks again and again.
func TestWatch(t *testing.T) {
	t.Parallel()
	c := trial.collection(t)
	s := postgresSite(t)
	s.serve()
	job := s.upload(c.path, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 100}})
	p := newProxy(t, s.address)
	watcher := dial(t, p.address())
	ctx, cancel := context.WithTimeout(t.Context(), jobTimeout)
	defer cancel()
	progress := &progression{t: t}
	cuts := 0
	for snapshot, err := range watcher.Watch(ctx, job) {
		if err != nil {
			t.Fatal(err)
		}
		progress.next(snapshot)
		switch {
		case progress.seen == 1: // before anything happens
			p.cut()
			cuts++
			s.work("watched", "--slots", "2")
		case cuts < 4 && snapshot.GetProgress().GetItemsEnded() > 0: // in the middle
			p.cut()
			cuts++
		}
	}
	if got := p.connections(); got < 2 {
		t.Errorf("%d connections were made with %d cuts, want at least 2", got, cuts)
	}
	if progress.last == nil || !client.Ended(progress.last.GetState()) {
		t.Fatalf("the last snapshot is %v, want an end", progress.last)
	}
	checkSums(t, progress.last, c.summary.Items)
}

// TestWatchersThatStopReading opens many watches and never reads from them, while a job runs whose snapshots are large,
// so that they fill what lies between. Every snapshot that the one watcher who reads gets brings the next change.
func TestWatchersThatStopReading(t *testing.T) {
	t.Parallel()
	const parts = 12
	c := trial.collection(t)
	s := postgresSite(t)
	s.serve()
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), jobTimeout)
	defer cancel()
	large := map[string]string{"large": strings.Repeat("x", 15<<10)} // a snapshot has both, 30 KiB
	up := s.uploadPiecemeal(ctx, content, client.Upload{Labels: large, Parameters: large})
	watchWithoutReading(ctx, t, s.address, up.job)
	before := s.server.rss()
	s.work("worker", "--slots", "2")
	progress := &progression{t: t}
	var most int64
	for snapshot, err := range s.client.Watch(ctx, up.job) {
		if err != nil {
			t.Fatalf("after %d snapshots: %v", progress.seen, err)
		}
		progress.next(snapshot)
		most = max(most, s.server.rss())
		up.send(len(content)/parts + 1)
	}
	up.finish()
	if progress.last == nil || !client.Ended(progress.last.GetState()) {
		t.Fatalf("the last snapshot is %v, want an end", progress.last)
	}
	checkSums(t, progress.last, c.summary.Items)
	// That many are more than the 64 KiB that a stream takes before somebody reads: the other watches are stuck.
	if progress.seen < parts {
		t.Errorf("the watcher that reads got %d snapshots, want at least %d", progress.seen, parts)
	}
	if most-before > memoryBound()/4 {
		t.Errorf("the server grew by %d MiB, want at most %d", (most-before)>>20, memoryBound()>>22)
	}
}

// watchWithoutReading opens fifty watches on five connections, which stay open as long as ctx.
func watchWithoutReading(ctx context.Context, t testing.TB, address string, job int64) {
	t.Helper()
	for range 5 {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		for range 10 {
			if _, err := tallymanv1.NewJobServiceClient(conn).WatchJob(ctx, &tallymanv1.WatchJobRequest{JobId: job}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
