package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
	"github.com/tallyman-dev/tallyman/worker"
)

// way leads to one coordinator, and can be taken away.
type way struct {
	*coordinator
	mu      sync.Mutex
	conns   []*wayConn
	dead    bool
	standby chan struct{} // closed when what waits at the dead coordinator may end
	frozen  chan struct{} // closed at the end of a freeze; nil without one
}

// wayConn is a connection that carries nothing while its way is frozen.
type wayConn struct {
	net.Conn
	way    *way
	closed chan struct{}
	once   sync.Once
}

func (c *wayConn) wait() {
	c.way.mu.Lock()
	frozen := c.way.frozen
	c.way.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-c.closed:
		}
	}
}

func (c *wayConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wait()
	return n, err
}

func (c *wayConn) Write(p []byte) (int, error) {
	c.wait()
	return c.Conn.Write(p)
}

func (c *wayConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (w *way) dial(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil, errors.New("nobody listens")
	}
	conn, err := w.server.local.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	c := &wayConn{Conn: conn, way: w, closed: make(chan struct{})}
	w.conns = append(w.conns, c)
	return c, nil
}

// kill cuts all connections, lets nobody in, and returns when the test is over: what calls it is not done any more.
func (w *way) kill() {
	w.mu.Lock()
	w.dead = true
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.mu.Unlock()
	<-w.standby
}

func (w *way) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = make(chan struct{})
}

// thaw is no error when nothing is frozen.
func (w *way) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.frozen != nil {
		close(w.frozen)
		w.frozen = nil
	}
}

// beats reports whether a worker beats here.
func (w *way) beats() bool { return w.server.services.Beating().Len() > 0 }

// ways starts so many coordinators on one database, and returns what a worker needs to reach them.
func ways(t *testing.T, n int, config Config, wrap func(*way, store.Store) store.Store) ([]*way, worker.Config) {
	t.Helper()
	config.Database = pgtest.DSN(t, "coordinator", postgres.Migrate)
	var all []*way
	var addresses []string
	for i := range n {
		w := &way{standby: make(chan struct{})}
		w.coordinator = start(t, config, func(s store.Store) store.Store { return wrap(w, s) })
		t.Cleanup(func() { w.thaw(); close(w.standby) })
		all = append(all, w)
		addresses = append(addresses, fmt.Sprintf("passthrough:///%d", i))
	}
	dial := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		for i, w := range all {
			if address == strconv.Itoa(i) {
				return w.dial(ctx)
			}
		}
		return nil, fmt.Errorf("there is no coordinator %s", address)
	})
	return all, worker.Config{Address: strings.Join(addresses, ","), Dial: append(carrying(ourselves), dial)}
}

// work runs a worker until the test ends.
func work(t *testing.T, config worker.Config, h worker.Handler) {
	t.Helper()
	config.Handlers = map[string]worker.Handler{"probe": h}
	w, err := worker.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
}

// handlings counts how often each item was handled.
type handlings struct {
	mu    sync.Mutex
	times map[int64]int
}

func (h *handlings) Handle(_ context.Context, b *worker.Batch) error {
	for _, item := range b.Open() {
		h.mu.Lock()
		h.times[item.Number]++
		h.mu.Unlock()
		b.Report(worker.Result{Outcome: worker.Stored})
	}
	return nil
}

// dying kills a coordinator once it has committed a claim, or a settlement, and before it answers.
type dying struct {
	store.Store
	claimed, settled func()
}

func (d *dying) Claim(
	ctx context.Context, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn,
) (store.Claimed, error) {
	claimed, err := d.Store.Claim(ctx, lease, requests, turns)
	if err == nil && slices.ContainsFunc(claimed.Grants, func(g []store.Grant) bool { return len(g) > 0 }) {
		d.claimed()
	}
	return claimed, err
}

func (d *dying) Settle(ctx context.Context, settlements []store.Settlement) ([]store.SettleAnswer, []store.Ended, error) {
	answers, ended, err := d.Store.Settle(ctx, settlements)
	if err == nil {
		d.settled()
	}
	return answers, ended, err
}

func (d *dying) SettleAndClaim(
	ctx context.Context, settlements []store.Settlement, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn,
) (store.Settled, store.Claimed, error) {
	settled, claimed, err := d.Store.SettleAndClaim(ctx, settlements, lease, requests, turns)
	if err == nil {
		d.settled()
	}
	return settled, claimed, err
}

// TestCoordinatorsKilledInTheMiddle kills one of three coordinators between the commit of a claim and its answer, and
// another one between the commit of a settlement and its answer. Two workers go on at the third: every item is handled
// once, under the lease that was granted by the dead.
func TestCoordinatorsKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var killed []string
	// first reports whether this is the next thing to die of.
	first := func(n int, of string) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(killed) != n {
			return false
		}
		killed = append(killed, of)
		return true
	}
	all, config := ways(t, 3, Config{Lease: 20 * time.Second}, func(w *way, s store.Store) store.Store {
		return &dying{
			Store: s,
			claimed: func() {
				if first(0, "claim") {
					w.kill()
				}
			},
			settled: func() {
				if first(1, "settle") {
					w.kill()
				}
			},
		}
	})
	const items = 60
	up := all[0].submit(header("killed"), lines(1, items))
	h := &handlings{times: map[int64]int{}}
	for range 2 {
		config.Slots = 4
		work(t, config, h)
	}
	var alive *way
	j := all[0].ended(up.GetJobId())
	for _, w := range all {
		w.mu.Lock()
		if !w.dead {
			alive = w
		}
		w.mu.Unlock()
	}
	if diff := cmp.Diff([]string{"claim", "settle"}, killed); diff != "" {
		t.Fatalf("what coordinators died of (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: items}, outcomes(j)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := range int64(items) {
		if got := h.times[n+1]; got != 1 {
			t.Errorf("item %d was handled %d times, want once", n+1, got)
		}
	}
	r, err := alive.jobs.ListBatches(alive.ctx, &pb.ListBatchesRequest{JobId: up.GetJobId(), PageSize: 1000})
	alive.must(err)
	for _, b := range r.GetBatches() {
		if b.GetAttempt() != 1 {
			t.Errorf("batch %v took %d attempts, want 1: %v", b.GetBatchId(), b.GetAttempt(), alive.batch(b.GetBatchId()))
		}
	}
}

// patience handles a batch until it is told to finish.
type patience struct {
	begun  chan struct{}
	finish chan struct{}
	lost   chan error
}

func (p *patience) Handle(ctx context.Context, b *worker.Batch) error {
	p.begun <- struct{}{}
	select {
	case <-p.finish:
	case <-ctx.Done():
		p.lost <- context.Cause(ctx)
		return context.Cause(ctx)
	}
	for range b.Open() {
		b.Report(worker.Result{Outcome: worker.Stored})
	}
	return nil
}

// TestWorkerLeavesAFrozenCoordinator freezes the coordinator that a worker has chosen, with a lease that is far shorter
// than the keepalive of the connection takes: the worker beats at another one in time.
func TestWorkerLeavesAFrozenCoordinator(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	all, config := ways(t, 2, Config{Lease: lease}, func(_ *way, s store.Store) store.Store { return s })
	up := all[0].submit(header("frozen"), lines(1, 2))
	h := &patience{begun: make(chan struct{}, 1), finish: make(chan struct{}), lost: make(chan error, 1)}
	config.Slots = 1
	work(t, config, h)
	<-h.begun
	var frozen, other *way
	for frozen == nil {
		for i, w := range all {
			if w.beats() {
				frozen, other = w, all[1-i]
			}
		}
		pass(10 * time.Millisecond)
	}
	frozen.freeze()
	began := time.Now()
	// Until then the lease, had it not been renewed, would have ended long ago.
	for !other.beats() || time.Since(began) < 2*lease {
		select {
		case err := <-h.lost:
			t.Fatalf("the handler was told %v after %v", err, time.Since(began))
		case <-other.ctx.Done():
			t.Fatal("the worker does not come to the other coordinator")
		case <-time.After(10 * time.Millisecond):
		}
	}
	close(h.finish)
	frozen.thaw()
	j := other.ended(up.GetJobId())
	if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 2}, outcomes(j)); diff != "" ||
		len(j.GetLastCrashes()) != 0 {
		t.Errorf("crashes %v, outcomes (-want +got):\n%s", j.GetLastCrashes(), diff)
	}
}
