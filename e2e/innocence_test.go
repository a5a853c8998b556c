//go:build linux

package e2e

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// misfortune is a job of slow items whose coordinators, on a host of their own, have all kinds of bad luck.
type misfortune struct {
	*ordeal
	lease        time.Duration
	flags        []string
	server       *host
	coordinators []*site
	up           *piecemeal
	sent         int // items
}

// misfortuneBatch is the items of a batch: it takes almost a second.
const misfortuneBatch = 40

// newMisfortune has three workers, each on a host of its own, begin with a job of n coordinators.
func newMisfortune(t *testing.T, base *site, n int) *misfortune {
	t.Helper()
	const lease, items = 3 * time.Second, 60_000 // more than there will be time for
	net, p := newNetwork(t), newPoison(t, items, each(items, slow))
	m := &misfortune{lease: lease, server: net.host(), flags: []string{
		"--insecure", "--lease", lease.String(), "--heartbeat-interval", "500ms", "--reconnect-grace", "1s",
	}}
	// From here the first one is reached whatever becomes of the network.
	var addresses []string
	for _, port := range []string{":7650", ":7651"}[:n] {
		one := *base
		one.on, one.address, one.client = m.server, m.server.address+port, base.client
		one.serve(m.flags...)
		addresses = append(addresses, one.address)
		m.coordinators = append(m.coordinators, &one)
		if base.client == nil {
			base.address = m.server.relay(one.address)
			base.client = dial(t, base.address)
		}
	}
	for _, id := range []string{"first", "second", "third"} {
		one := *base
		one.on, one.address = net.host(), strings.Join(addresses, ",")
		one.exec(id, "slow", p, "--slots", "2")
	}
	m.up = base.uploadPiecemeal(t.Context(), []byte(p.lines(func(numbered) bool { return true })), client.Upload{
		Kind: "slow", Policy: &tallymanv1.Policy{BatchItems: misfortuneBatch},
	})
	m.ordeal = &ordeal{site: base, poison: p, t: t, id: m.up.job}
	return m
}

// busy gives the workers more to do and returns when they are in the middle of it.
func (m *misfortune) busy() {
	m.t.Helper()
	eventually(m.t, jobTimeout, "workers to be in the middle of batches", func() bool {
		if len(m.batches(m.id, tallymanv1.BatchState_BATCH_STATE_RUNNING)) >= 4 {
			return true
		}
		m.more()
		return false
	})
}

// more sends as many items as all workers together have in hand.
func (m *misfortune) more() {
	m.t.Helper()
	bytes := 0
	for range 6 * misfortuneBatch {
		bytes += len(m.items[m.sent].line())
		m.sent++
	}
	m.up.send(bytes)
}

// recover waits until more items have ended than before.
func (m *misfortune) recover() {
	m.t.Helper()
	ended := func() int64 { return m.site.job(m.id).GetProgress().GetItemsEnded() }
	before := ended()
	eventually(m.t, jobTimeout, "items to be stored", func() bool {
		m.more()
		return within(2*time.Second, func() bool { return ended() > before })
	})
}

func (m *misfortune) kill(victim *site) {
	m.t.Helper()
	victim.server.kill()
	if len(m.coordinators) > 1 && victim != m.coordinators[0] {
		m.recover() // which asks the first
	}
	victim.serve(m.flags...)
}

func (m *misfortune) replace(victim *site) {
	m.t.Helper()
	victim.server.terminate()
	victim.serve(m.flags...)
}

// cut has no worker reach a coordinator for two leases.
func (m *misfortune) cut() {
	m.t.Helper()
	m.server.disconnect()
	timer := time.NewTimer(2 * m.lease)
	defer timer.Stop()
	<-timer.C
	m.server.connect()
}

// TestOutagesNameNobody has coordinators, their database and the network of all workers fail, five times each during one
// job: no item is said to have killed anything, and nothing is split.
func TestOutagesNameNobody(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		base, database := serverSite(t)
		m := newMisfortune(t, base, 2)
		modes := []pgtest.Mode{pgtest.Fast, pgtest.Immediate}
		m.suffer(
			func() { m.kill(m.coordinators[0]) },
			func() { m.kill(m.coordinators[1]) },
			func() {
				if err := database.Restart(t.Context(), modes[0]); err != nil {
					t.Fatal(err)
				}
				slices.Reverse(modes)
			},
			m.cut)
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		m := newMisfortune(t, sqliteSite(t), 1)
		m.suffer(func() { m.kill(m.coordinators[0]) }, func() { m.replace(m.coordinators[0]) }, m.cut)
	})
}

// suffer has everything happen five times, and checks what becomes of the job.
func (m *misfortune) suffer(blows ...func()) {
	m.t.Helper()
	began := time.Now()
	for range 5 {
		for _, blow := range blows {
			m.busy()
			blow()
			m.recover()
		}
	}
	m.up.end(io.EOF)
	if err := <-m.up.ended; err != nil {
		m.t.Fatal(err)
	}
	job := m.await(m.id)
	m.t.Logf("%d items in %v", m.sent, time.Since(began).Round(time.Second))
	m.items = m.items[:m.sent]
	m.checkEnd(job, jobSucceeded, map[tallymanv1.Outcome]int64{isStored: int64(m.sent)})
	m.checkResults()
	ends := map[tallymanv1.AttemptEnd]int{}
	for _, b := range m.batches(m.id) {
		if b.GetRootId() != 0 || b.GetState() != tallymanv1.BatchState_BATCH_STATE_COMPLETED || b.GetCrashes() > 0 || b.GetFailures() > 0 {
			m.t.Errorf("batch %d is accused: %v", b.GetBatchId(), b)
		}
		for _, a := range m.attempts(b.GetBatchId()) {
			ends[a.GetEnd()]++
		}
	}
	m.t.Logf("attempts ended as %v", ends)
	if ends[tallymanv1.AttemptEnd_ATTEMPT_END_LOST] == 0 {
		m.t.Error("no attempt was lost, so that nothing is proved about lost ones")
	}
	delete(ends, tallymanv1.AttemptEnd_ATTEMPT_END_LOST)
	delete(ends, tallymanv1.AttemptEnd_ATTEMPT_END_RELEASED)
	if len(ends) > 0 {
		m.t.Errorf("attempts ended as %v, want only lost and released ones", ends)
	}
}
