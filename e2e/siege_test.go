//go:build linux

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// seedVariable names the environment variable that has a test do again what it did at random.
const seedVariable = "TALLYMAN_E2E_SEED"

// pieceBytes is what the upload goes on by: some batches.
const pieceBytes = 8 << 10

// newRandom returns a source of randomness, and tells how to have the same again.
func newRandom(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if given := os.Getenv(seedVariable); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("again with %s=%d", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// siege is several coordinators on one database server, a job on them, and what is done to them.
type siege struct {
	*site
	t            testing.TB
	random       *rand.Rand
	lease        time.Duration
	flags        []string
	asking       *asking
	coordinators []*site
	servers      []*process // that ever ran
	up           *piecemeal
	watcher      watching
}

// watching is who watches the job of a siege.
type watching struct {
	revision atomic.Int64 // of the last snapshot
	ended    chan error   // gets the error that the watch ended with, or nil
}

func coordinatorName(i int) string { return fmt.Sprintf("coordinator-%d", i) }

// newSiege starts the coordinators of a site that is on Postgres. Whoever is told the site's address knows all of them.
func newSiege(t testing.TB, base *site, lease time.Duration) *siege {
	t.Helper()
	s := &siege{site: base, t: t, random: newRandom(t), lease: lease}
	execute(t, base.connect(), keepJournal)
	s.asking = &asking{s: base}
	s.flags = []string{"--lease", lease.String(), "--heartbeat-interval", "500ms", "--reconnect-grace", "1s"}
	var addresses []string
	for i := range 3 {
		one := *base
		// By this name the database knows it. The string has parameters already.
		one.database = []string{"--database", fmt.Sprintf("%s&application_name=%s", base.store, coordinatorName(i))}
		s.servers = append(s.servers, one.serve(s.flags...))
		s.coordinators = append(s.coordinators, &one)
		addresses = append(addresses, one.address)
	}
	s.address = strings.Join(addresses, ",")
	s.client = dial(t, s.address)
	return s
}

// progress waits until more items have ended than before.
func (s *siege) progress() {
	s.t.Helper()
	const done = `SELECT coalesce(sum(done_items), 0)::bigint FROM batches WHERE job_id = $1`
	before := ask[int64](s.asking, done, s.up.job)
	for asked := 0; ; asked++ {
		if len(s.up.content) == 0 {
			s.t.Fatal("the collection is too small for the siege")
		}
		s.up.send(pieceBytes)
		if within(2*time.Second, func() bool { return ask[int64](s.asking, done, s.up.job) > before }) {
			return
		}
		if asked > int(jobTimeout/(2*time.Second)) {
			s.t.Fatalf("waited %v for items to be stored in vain", jobTimeout)
		}
	}
}

// kill kills coordinators, and has others take their places when work has gone on without them.
func (s *siege) kill(victims ...*site) {
	s.t.Helper()
	for _, v := range victims {
		v.server.kill()
	}
	if len(victims) < len(s.coordinators) {
		s.progress()
	}
	s.revive(victims...)
}

// bury kills coordinators and has others take their places at once.
func (s *siege) bury(victims ...*site) {
	s.t.Helper()
	for _, v := range victims {
		v.server.kill()
	}
	s.revive(victims...)
}

func (s *siege) revive(victims ...*site) {
	s.t.Helper()
	for _, v := range victims {
		s.servers = append(s.servers, v.serve(s.flags...))
	}
}

// freeze halts a coordinator for longer than a lease, while workers are in the middle of batches, and wakes it only when
// work has gone on without it.
func (s *siege) freeze(victim *site) {
	s.t.Helper()
	release := s.block("fences")
	s.up.send(3 * pieceBytes)
	awaitBlocked(s.t, s.asking.connection(), "fences")
	victim.server.freeze()
	s.asking.pass(s.lease * 3 / 2)
	release()
	s.progress()
	victim.server.thaw()
}

// freezeSettling halts a coordinator in the middle of a transaction that settles batches, for longer than a lease. What it
// has locked must not hold up anybody else for so long.
func (s *siege) freezeSettling() {
	s.t.Helper()
	finish := s.block("fences")
	s.up.send(3 * pieceBytes)
	awaitBlocked(s.t, s.asking.connection(), "fences")
	// Whoever settles batches waits for the journal of that with the batches locked, and then has more to say.
	release := s.block("journal")
	finish()
	const settling = `SELECT coalesce(min(application_name), '') FROM pg_stat_activity JOIN pg_locks USING (pid)
		WHERE NOT granted AND relation = 'journal'::regclass AND query LIKE '%UPDATE batches b%SET state = 2%'`
	name := ""
	eventually(s.t, time.Minute, "a coordinator to settle batches", func() bool {
		name = ask[string](s.asking, settling)
		return name != ""
	})
	for i, victim := range s.coordinators {
		if coordinatorName(i) != name {
			continue
		}
		victim.server.freeze()
		release()
		s.asking.pass(s.lease * 3 / 2)
		s.progress()
		victim.server.thaw()
		return
	}
	s.t.Fatalf("%q settles batches, which is no coordinator", name)
}

// some returns n of the coordinators.
func (s *siege) some(n int) []*site {
	var all []*site
	for _, i := range s.random.Perm(len(s.coordinators))[:n] {
		all = append(all, s.coordinators[i])
	}
	return all
}

// takeDatabase takes the database away for longer than a lease, while workers are in the middle of batches, and kills
// coordinators meanwhile. The workers must give up their leases, and nobody may hold it against them.
func (s *siege) takeDatabase(database *pgtest.Server, victims ...*site) {
	s.t.Helper()
	s.block("fences") // the end of the database releases it
	s.up.send(3 * pieceBytes)
	awaitBlocked(s.t, s.asking.connection(), "fences")
	if err := database.Stop(pgtest.Immediate); err != nil {
		s.t.Fatal(err)
	}
	away := time.NewTimer(s.lease * 3 / 2) // by our clock, since the database has none now
	defer away.Stop()
	for _, v := range victims {
		v.server.kill()
	}
	<-away.C
	s.restart(database, pgtest.Fast)
	s.revive(victims...)
}

func (s *siege) restart(database *pgtest.Server, mode pgtest.Mode) {
	s.t.Helper()
	if err := database.Restart(s.t.Context(), mode); err != nil {
		s.t.Fatal(err)
	}
}

// recover waits until all have got over the blows before: both workers are heard of, no lease is about to run out, and who
// watches is told the news. Ever more blows, each at the very coordinator that a worker has just gone to, may keep it silent
// for longer than the lease for which the others wait for it, and lose it a lease, which is no fault; docs/protocol.md says
// how many it takes. Nor is it one of a watch that gives up, since nobody answered it for half a minute.
func (s *siege) recover() {
	s.t.Helper()
	const recovered = `
		SELECT count(*) >= 2 AND bool_and(beat_at > clock_timestamp() - interval '2 seconds') AND NOT EXISTS (
			SELECT FROM batches WHERE state = 1 AND lease_expires_at < clock_timestamp() + interval '3 seconds')
		FROM sessions WHERE ended_at IS NULL`
	eventually(s.t, jobTimeout, "the workers to be heard of again", func() bool { return ask[bool](s.asking, recovered) })
	current := ask[int64](s.asking, `SELECT revision FROM jobs WHERE id = $1`, s.up.job)
	eventually(s.t, jobTimeout, "the watch to tell the news", func() bool {
		return s.watcher.revision.Load() >= current || len(s.watcher.ended) > 0
	})
}

// TestSiege kills, freezes and restarts coordinators and their database in the middle of an upload and of the work on it,
// in an order that chance decides. Nothing of it may be seen in the result.
func TestSiege(t *testing.T) {
	t.Parallel()
	c := trial.undisturbed(t)
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	base, database := serverSite(t)
	s := newSiege(t, base, 6*time.Second)
	workers := []*process{s.work("first", "--slots", "2"), s.work("second", "--slots", "2")}
	ctx, cancel := context.WithTimeout(t.Context(), jobTimeout)
	defer cancel()
	s.up = s.uploadPiecemeal(ctx, content, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 60}})
	s.watch(ctx)

	blows := []struct {
		name string
		blow func()
	}{
		{"kill one", func() { s.kill(s.some(1)...) }},
		{"kill one again", func() { s.kill(s.some(1)...) }},
		{"kill two", func() { s.kill(s.some(2)...) }},
		{"kill all", func() { s.kill(s.coordinators...) }},
		{"freeze one", func() { s.freeze(s.some(1)[0]) }},
		{"freeze one that settles", s.freezeSettling},
		{"restart the database", func() { s.restart(database, pgtest.Fast) }},
		{"crash the database", func() { s.restart(database, pgtest.Immediate) }},
		{"take the database away, kill two meanwhile", func() { s.takeDatabase(database, s.some(2)...) }},
	}
	s.random.Shuffle(len(blows), func(i, j int) { blows[i], blows[j] = blows[j], blows[i] })
	for i, b := range blows {
		s.progress()
		if i%2 == 0 {
			s.recover() // blows come two in a row
		}
		began := time.Now()
		b.blow()
		t.Logf("%s: %v", b.name, time.Since(began).Round(time.Millisecond))
	}
	s.up.finish()

	ended := s.await(s.up.job)
	s.checkTrial(ended, c)
	s.checkStoredOnce(s.up.job, c)
	s.checkNobodyAccused(ended, s.servers...)
	conn := s.connect()
	t.Logf("%d leases were granted for %d batches", checkJournal(t, conn, s.up.job), len(s.batches(s.up.job)))
	for _, w := range workers {
		w.terminate()
	}
	if err := <-s.watcher.ended; err != nil {
		t.Errorf("watch: %v", err)
	}
}

// watch watches the job of the siege, whose numbers must never run backwards, until it ends.
func (s *siege) watch(ctx context.Context) {
	s.watcher.ended = make(chan error, 1)
	go func() {
		p := &progression{t: s.t}
		for job, err := range s.client.Watch(ctx, s.up.job) {
			if err != nil {
				s.watcher.ended <- err
				return
			}
			p.next(job)
			s.watcher.revision.Store(job.GetRevision())
		}
		var err error
		if p.last == nil || !client.Ended(p.last.GetState()) {
			err = fmt.Errorf("the last snapshot is %v, want an end", p.last)
		}
		s.watcher.ended <- err
	}()
}
