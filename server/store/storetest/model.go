package storetest

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/store"
)

// Cluster is one database and what coordinators hold of it.
type Cluster struct {
	// Handles are stores, one for each coordinator. On an engine that many processes share each has connections of its
	// own. On one that a single process owns they are the same store: its coordinators are this process's memories only.
	Handles []store.Store
	// Reopen closes a handle whose coordinator has died and has another one in its place; nil on an engine where all are one.
	Reopen func(i int) (store.Store, error)
	// Postpone has a returned batch available in d from now. How long a failed batch waits is random and takes seconds;
	// a sequence sets it by itself, so that it is a function of its seed.
	Postpone func(ctx context.Context, batchID int64, d time.Duration) error
	// Shun has a returned batch that died be avoided for d from now by the worker on which it did.
	Shun func(ctx context.Context, batchID int64, d time.Duration) error
	// Looks says that every claim looks for batches that not every session may have. Otherwise a handle looks for them when
	// it has made one, or when its last claim saw some, or when there is nothing else.
	Looks bool
}

// OpenCluster opens an empty database for one test, with handles for so many coordinators, and has it closed when the
// test ends.
type OpenCluster func(tb testing.TB, coordinators int) Cluster

// coordinators of the model.
const coordinators = 3

// brief is a time that has passed when the store's clock is asked next: a lease that ends so is one whose end the
// model need not wait for, and an expired one from then on.
const brief = time.Microsecond

// Model drives a store at random, a step at a time, against a model of what it must remember: jobs and their batches,
// coordinators that remember what they saw and act on it when it is long stale, or forget all of it, workers that die,
// freeze, come back, settle late and twice, and uploads that break and resume. Every answer is predicted, and after
// every step all rows are compared with the model, so that each invariant of the store's specification holds or is said
// to be broken: at most one live lease a batch; no more running batches of a job, or of a project, than may be; attempts
// that only grow; ends that never change; every item of a batch that was split in exactly one of its parts; nobody called
// the culprit but after two deaths of its own, and none named or split while only one worker is known to die; no worker
// drained but by the verdict that its deaths make, and what died on that one acquitted; counters
// that are what the batches say; outcomes that are final, and one for every item of a job that ended; findings recorded
// once; progress and revisions that never fall; jobs that end when all is settled.
//
// Time is the store's own, but what depends on it has always passed, or never does, so that a failing seed replays: it
// is printed, with the flags that do so. runs sequences are tried, unless -rapid.checks says how many: all on one
// database, since jobs do not know each other.
func Model(t *testing.T, open OpenCluster, runs int) {
	t.Helper()
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "rapid.checks" {
			runs = 0
		}
	})
	cluster := open(t, coordinators)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		if run > runs && runs > 0 {
			return
		}
		m := newModel(context.WithoutCancel(t.Context()), rt, cluster, run)
		if dice(rt, 3, "poison") == 0 {
			if m.poison = drawPoison(rt); m.poison.way == badWorker {
				m.poison.bad = m.worker(0)
			}
		}
		m.begin(rt)
		for range 2 { // rapid's steps are 30 on average
			rt.Repeat(map[string]func(*rapid.T){"": m.check, "step": m.step})
		}
		m.finish(rt)
	})
}

// action is what an actor may do next.
type action struct {
	name   string
	weight int         // how often, compared with others
	ready  func() bool // whether it can be done now; nil for always
	do     func(*rapid.T)
}

// step does one thing that can be done now. None is tried in vain: a sequence of rapid's ends early when many are.
func (m *model) step(t *rapid.T) {
	m.breathe()
	var ready []action
	sum := 0
	actions := slices.Concat(m.uploadActions(), m.jobActions(), m.workerActions(), m.leaseActions(), m.coordinatorActions())
	if m.poison != nil {
		actions = m.poisonActions()
	}
	for _, a := range actions {
		if a.ready == nil || a.ready() {
			ready = append(ready, a)
			sum += a.weight
		}
	}
	n := dice(t, sum, "action")
	for _, a := range ready {
		if n -= a.weight; n < 0 {
			t.Logf("%s", a.name)
			a.do(t)
			return
		}
	}
}

// breathe has all sessions beat from time to time, so that on a slow machine too each counts as one that lives.
func (m *model) breathe() {
	if time.Since(m.breathed) < 10*time.Second {
		return
	}
	m.breathed = time.Now()
	m.touchThese(m.coordinators[0])
}

// begin has a job and workers there, without which little can happen.
func (m *model) begin(t *rapid.T) {
	m.upload(t)
	for range 2 {
		m.start(t)
	}
	m.commitGroup(m.streams[0], cut(m.streams[0].job.up, 3, 1, 4, 2))
}

// model is what one sequence knows of the store.
type model struct {
	*fixture     // of the first coordinator
	run          int
	names        int // given out so far, to be unique
	steps        int
	cluster      Cluster
	coordinators []*coordinator
	jobs         []*knownJob             // deleted ones included
	batches      map[int64]*knownBatch   // of all jobs
	sessions     []*knownSession         // ended ones included
	streams      []*uploadStream         // broken and superseded ones included
	requests     []store.ClaimRequest    // made before
	grants       []store.Grant           // every one, live or not
	settlements  []store.Settlement      // every one that was answered
	late         []call                  // on their way
	finishing    bool                    // all jobs are being ended
	poison       *poison                 // nil unless items kill what handles them, and nothing else does
	clock        int                     // of steps that the store's clock tells apart
	breathed     time.Time               // all sessions
	touched      map[*knownBatch]touched // in this step
	unseen       []*knownBatch           // parts whose rows were not seen
}

// call is one that a coordinator has begun, with what it knew then, and that has not reached the store.
type call struct {
	by  *coordinator
	run func()
}

// touched says what a step may have changed of a batch's times.
type touched struct{ lease, settled bool }

func newModel(ctx context.Context, rt *rapid.T, cluster Cluster, run int) *model {
	m := &model{run: run, breathed: time.Now(), cluster: cluster, batches: map[int64]*knownBatch{}, touched: map[*knownBatch]touched{}}
	for _, s := range cluster.Handles {
		c := &coordinator{fixture: &fixture{tb: rt, Store: s, ctx: ctx}}
		c.forget()
		m.coordinators = append(m.coordinators, c)
	}
	m.fixture = m.coordinators[0].fixture
	// What a sequence that failed left behind is none of this one's business.
	for len(m.reap()) > 0 {
	}
	_, err := m.EndSilentSessions(ctx, 0)
	m.must(err)
	for _, c := range m.coordinators {
		_, err := c.Claim(ctx, long, []store.ClaimRequest{request(0, "nobody", 1)}, nil)
		m.must(err)
	}
	return m
}

// send has a call reach the store at once, or after others that were made later.
func (m *model) send(t *rapid.T, by *coordinator, run func()) {
	if m.poison == nil && len(m.late) < 4 && dice(t, 6, "late") == 0 {
		m.late = append(m.late, call{by, run})
		return
	}
	run()
}

// tick returns a time after all that were returned before.
func (m *model) tick() int {
	m.clock++
	return m.clock
}

func (m *model) name(prefix string) string {
	m.names++
	return fmt.Sprintf("%s-%d-%d", prefix, m.run, m.names)
}

// pick draws one of list, which must not be empty.
func pick[T any](t *rapid.T, list []T, label string) T {
	return list[dice(t, len(list), label)]
}

// dice draws a number below n, each as often as the others: rapid's own ranges prefer their ends.
func dice(t *rapid.T, n int, label string) int {
	return rapid.Custom(func(t *rapid.T) int {
		drawn := 0
		for of := 1; of < 16*n; of *= 2 {
			drawn *= 2
			if rapid.Bool().Draw(t, "bit") {
				drawn++
			}
		}
		return drawn % n
	}).Draw(t, label)
}

// lasts draws a duration that does not pass, or one that has passed at once. Where items are poison nobody is slow.
func (m *model) lasts(t *rapid.T, label string) time.Duration {
	if m.poison != nil {
		return long
	}
	return pick(t, []time.Duration{long, long, brief}, label)
}

// elapse lets a brief time pass.
func (m *model) elapse(d time.Duration) {
	if d == brief {
		m.pass(m.now().Add(brief))
	}
}

// alive returns the jobs that are not deleted.
func (m *model) alive() []*knownJob {
	var list []*knownJob
	for _, j := range m.jobs {
		if !j.deleted {
			list = append(list, j)
		}
	}
	return list
}
