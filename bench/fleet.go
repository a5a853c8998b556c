package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

const (
	// fleetSlots is how many leases each session of a fleet holds.
	fleetSlots = 4

	// fleetShare is how many sessions share a connection, as they would not: it spares this machine their sockets.
	fleetShare = 200

	// fleetTimeout bounds the time until a fleet holds all its leases.
	fleetTimeout = 10 * time.Minute
)

// fleet has many workers hold leases and do nothing but beat, at the default interval, and takes what that costs.
func fleet(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	leases := int64(c.Sessions) * fleetSlots
	r.Settings = map[string]string{
		"sessions": strconv.Itoa(c.Sessions), "leases": strconv.FormatInt(leases, 10), "for": c.Watched.String(),
	}
	s, err := open(ctx, c, engine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	job, err := s.upload(ctx, leases, &tallymanv1.Policy{BatchItems: 1})
	if err != nil {
		return r, err
	}
	working, stop := context.WithCancel(ctx)
	crew := &crew{}
	defer func() {
		stop()
		err = errors.Join(err, crew.leave())
	}()
	registering, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	begun := time.Now()
	if err := crew.join(working, s.address, c.Sessions); err != nil {
		return r, err
	}
	answered, err := s.holds(ctx, job, leases, fleetTimeout)
	if err != nil {
		return r, err
	}
	r.add("all leases held after", time.Since(begun).Seconds(), "s")
	r.add("a question meanwhile, answered after at most", answered.Seconds()*1e3, "ms")
	joining, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	each := joining.since(registering)
	r.add("joining, processor time, coordinator", each.server.Seconds()*1e3/float64(c.Sessions), "ms/session")
	if each.database > 0 {
		r.add("joining, processor time, database", each.database.Seconds()*1e3/float64(c.Sessions), "ms/session")
	}
	before, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	timer := time.NewTimer(c.Watched)
	defer timer.Stop()
	watched := time.Now()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
	after, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	took := time.Since(watched)
	if _, err := s.holds(ctx, job, leases, 0); err != nil {
		return r, fmt.Errorf("leases were lost: %w", err)
	}
	used := after.since(before)
	r.add("processors, coordinator", used.server.Seconds()/took.Seconds(), "cores")
	r.add("processors, database", used.database.Seconds()/took.Seconds(), "cores")
	if used.storage.Updated > 0 {
		r.add("updates in place (HOT)", 100*float64(used.storage.Hot)/float64(used.storage.Updated), "%")
		r.add("log written", float64(used.storage.Bytes)/1e3/took.Seconds(), "kB/s")
	}
	return r, nil
}

// holds waits until as many batches of a job run, and returns the longest that it took the coordinator to say how many do.
func (s *site) holds(ctx context.Context, job, batches int64, wait time.Duration) (answered time.Duration, err error) {
	for deadline := time.Now().Add(wait); ; {
		asked := time.Now()
		seen, err := s.client.Job(ctx, job)
		if err != nil {
			return answered, err
		}
		answered = max(answered, time.Since(asked))
		running := seen.GetProgress().GetItemsInFlight()
		if running == batches {
			return answered, nil
		}
		if !time.Now().Before(deadline) {
			return answered, fmt.Errorf("%d of %d batches run", running, batches)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return answered, context.Cause(ctx)
		}
	}
}

// crew are workers in this process.
type crew struct {
	conns []*grpc.ClientConn
	wait  sync.WaitGroup
	mu    sync.Mutex
	errs  []error
}

// join starts workers whose handlers never end by themselves.
func (w *crew) join(ctx context.Context, address string, sessions int) error {
	idle := worker.HandlerFunc(func(ctx context.Context, _ *worker.Batch) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	for n := range sessions {
		if n%fleetShare == 0 {
			conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return fmt.Errorf("connect: %w", err)
			}
			w.conns = append(w.conns, conn)
		}
		one, err := worker.New(worker.Config{
			Conn: w.conns[len(w.conns)-1], Slots: fleetSlots, DrainTimeout: time.Millisecond,
			Handlers: map[string]worker.Handler{noopKind: idle},
		})
		if err != nil {
			return err
		}
		w.wait.Go(func() {
			if err := one.Run(ctx); err != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.errs = append(w.errs, err)
			}
		})
	}
	return nil
}

// leave waits for the end of the workers, who have been told.
func (w *crew) leave() error {
	w.wait.Wait()
	for _, conn := range w.conns {
		w.errs = append(w.errs, conn.Close())
	}
	return errors.Join(w.errs...)
}
