package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallyman-dev/tallyman/internal/retry"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// session is one life of a worker process, as the coordinator knows it.
type session struct {
	config  Config
	api     pb.WorkerServiceClient
	jobs    pb.JobServiceClient
	log     *slog.Logger
	id      int64
	cluster string
	lease   time.Duration // for which leases are granted and renewed

	interval atomic.Int64  // between beats, in nanoseconds, as the coordinator last said
	reported atomic.Bool   // something that a beat brings has happened since the last one was made
	beat     chan struct{} // says that the next beat may be due earlier
	settle   chan struct{} // says that queue is not empty

	renew     func()        // gives up the coordinator at the other end of the connection, and chooses another
	failed    chan struct{} // closed when err is set
	drained   chan struct{} // closed when the coordinator has said that the worker is being drained
	drainOnce sync.Once

	mu      sync.Mutex
	held    map[leaseKey]*lease // leases that are named in beats
	running map[*lease]struct{} // leases, held or not, whose handlers have not returned: each takes a slot
	queue   []*lease            // held leases that wait to be settled
	changed chan struct{}       // closed, and replaced, when held or running lose something
	rest    respite
	trouble string // of rest, as the last beat told it
	err     error  // with which the session ends
	closed  bool   // nothing is held any more

	// Each free slot is asked for once: by the claim loop, or together with settlements.
	claiming bool          // batches may be taken
	polling  int           // slots that the claim loop asks for
	next     *pb.NextClaim // what settlements under way ask for
	unsure   *pb.NextClaim // what settlements asked for that failed: the claim loop repeats it
	failing  bool          // the last settlements failed: until others succeed they ask for nothing
	plain    time.Time     // until when they do not ask, since the coordinator does not know of it
}

const (
	registerTimeout   = 10 * time.Second // for one answer
	deregisterTimeout = 3 * time.Second
	flushTimeout      = 5 * time.Second // for the last settles when the worker stops
)

// errStopped is returned when ctx ended before there was a session.
var errStopped = errors.New("stopped before a coordinator was reached")

// register starts a session, and tries until it has one, or is refused, or ctx ends.
func register(ctx context.Context, config Config, api pb.WorkerServiceClient, renew func()) (*session, error) {
	log := config.Logger.With("worker_id", config.WorkerID)
	again := repeat(log, config.Address, "register worker")
	for {
		bounded, cancel := context.WithTimeoutCause(ctx, registerTimeout, retry.ErrSilent)
		resp, err := api.RegisterWorker(bounded, config.registration())
		err = retry.Blame(bounded, err)
		cancel()
		if err == nil {
			again.worked()
			return newSession(config, api, log, resp, renew)
		}
		if ctx.Err() != nil {
			return nil, errStopped
		}
		if err := final(again.operation, err); err != nil {
			return nil, err
		}
		if errors.Is(err, retry.ErrSilent) {
			renew()
		}
		if !again.failed(ctx, err) {
			return nil, errStopped
		}
	}
}

// minLease is the shortest lease that a worker can keep.
const minLease = 100 * time.Millisecond

func newSession(
	config Config, api pb.WorkerServiceClient, log *slog.Logger, r *pb.RegisterWorkerResponse, renew func(),
) (*session, error) {
	s := &session{
		config: config, api: api, id: r.GetSessionId(), cluster: r.GetClusterId(), lease: r.GetLeaseDuration().AsDuration(),
		log: log.With("session_id", r.GetSessionId()), renew: renew,
		beat: make(chan struct{}, 1), settle: make(chan struct{}, 1), failed: make(chan struct{}), drained: make(chan struct{}),
		held: map[leaseKey]*lease{}, running: map[*lease]struct{}{}, changed: make(chan struct{}),
	}
	if s.lease < minLease {
		return nil, fmt.Errorf("register worker: the coordinator grants leases of %v, at least %v is needed", s.lease, minLease)
	}
	s.setInterval(r.GetHeartbeatInterval().AsDuration())
	s.log.Info("worker registered", "slots", config.Slots, "lease", s.lease)
	return s, nil
}

// setInterval follows the coordinator's pace as far as leases can be kept by it.
func (s *session) setInterval(d time.Duration) {
	if d > 0 {
		s.interval.Store(int64(min(max(d, s.lease/100), s.lease/2)))
	} else if s.interval.Load() == 0 {
		s.interval.Store(int64(s.lease / 6))
	}
}

// run works until ctx ends, the session fails, or there is nothing to do.
func (s *session) run(ctx context.Context, hurry <-chan struct{}) error {
	claiming, stopClaiming := context.WithCancel(ctx)
	defer stopClaiming()
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	claimed := make(chan struct{})
	go func() {
		defer close(claimed)
		s.claimLoop(claiming, working)
	}()
	var loops sync.WaitGroup
	loops.Go(func() { s.beatLoop(working) })
	loops.Go(func() { s.settleLoop(working) })
	loops.Go(func() { s.forgetLoop(claiming) })
	select {
	case <-ctx.Done():
	case <-claimed:
	case <-s.failed:
	case <-s.drained:
		s.log.Info("the worker is being drained: it takes no more")
	}
	stopClaiming()
	stuck := s.awaitClaims(claimed)
	if s.failure() == nil {
		s.drain(hurry)
	}
	stuck = errors.Join(stuck, s.abandon())
	err := s.failure()
	if !errors.Is(err, ErrSessionEnded) {
		s.deregister(ctx)
	}
	stopWorking()
	loops.Wait()
	return errors.Join(err, stuck)
}

// awaitClaims waits for the claim loop, which only a Preparer can hold up once it has been told to stop.
func (s *session) awaitClaims(claimed <-chan struct{}) error {
	timer := time.NewTimer(s.config.StopTimeout)
	defer timer.Stop()
	select {
	case <-claimed:
		return nil
	case <-timer.C:
		return errors.New("a handler's Prepare did not return after its context had ended")
	}
}

// drain lets handlers finish, then interrupts them, and settles what is held. It is bounded, and ends early when the
// session fails.
func (s *session) drain(hurry <-chan struct{}) {
	s.wait(s.config.DrainTimeout, hurry, func() bool { return len(s.held) == 0 && len(s.running) == 0 })
	if s.failure() != nil {
		return
	}
	s.mu.Lock()
	for l := range s.running {
		s.interrupt(l, ErrDraining)
	}
	s.mu.Unlock()
	s.wait(s.config.StopTimeout, nil, func() bool { return len(s.running) == 0 })
	if s.failure() != nil {
		return
	}
	s.mu.Lock()
	for l := range s.running {
		// Its handler does not stop, but what it has reported counts, and the rest may begin elsewhere at once.
		s.conclude(l, ErrDraining)
	}
	s.mu.Unlock()
	s.wait(flushTimeout, nil, func() bool { return len(s.held) == 0 })
}

// abandon gives up, without settling, every lease that is still held. It returns an error that names the handlers which
// do not return.
func (s *session) abandon() error {
	cause, failure := ErrLeaseLost, s.failure()
	if failure != nil {
		cause = fmt.Errorf("%w: %w", ErrLeaseLost, failure)
	}
	s.mu.Lock()
	s.closed = true
	for _, l := range s.held {
		s.drop(l, cause)
	}
	s.mu.Unlock()
	if failure != nil { // else drain has waited
		s.wait(s.config.StopTimeout, nil, func() bool { return len(s.running) == 0 })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.running) == 0 {
		return nil
	}
	var names []string
	for l := range s.running {
		l.stuck.Stop()
		names = append(names, fmt.Sprintf("batch %d (kind %s, attempt %d)", l.batch, l.grant.GetKind(), l.attempt))
	}
	slices.Sort(names)
	more := ""
	if most := 10; len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return fmt.Errorf("handlers did not return after their contexts had ended: %s%s", strings.Join(names, ", "), more)
}

// deregister ends the session in peace. Without it the coordinator would notice the end by the broken stream.
func (s *session) deregister(parent context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), deregisterTimeout)
	defer cancel()
	_, err := s.api.DeregisterWorker(ctx, &pb.DeregisterWorkerRequest{SessionId: s.id, Reason: s.reason()})
	if err != nil {
		s.log.Warn("worker not deregistered", "error", err)
		return
	}
	s.log.Info("worker deregistered")
}

// reason says why the session ends in peace.
func (s *session) reason() string {
	if s.wasDrained() {
		return "the worker was drained"
	}
	return "the worker stops"
}

func (s *session) wasDrained() bool {
	select {
	case <-s.drained:
		return true
	default:
		return false
	}
}

// fail ends the session with an error; the first one counts.
func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.failed)
	}
}

func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// wait waits until done, which is asked under the lock, or for so long, or until hurry is closed or the session fails.
func (s *session) wait(most time.Duration, hurry <-chan struct{}, done func() bool) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	failed := s.failed
	if s.failure() != nil {
		failed = nil // it is known; this is the wait that follows
	}
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-hurry:
			return
		case <-failed:
			return
		}
	}
}

// notify wakes those who wait for a change. The lock must be held.
func (s *session) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// poke leaves a word in a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
