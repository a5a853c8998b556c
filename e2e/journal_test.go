//go:build linux

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// keepJournal has the database itself write down every change of a lease, of an ended attempt, of a fence and of a
// stored item, so that whether the rules were kept can be judged without asking the program. What a transaction changed
// and what is written about it are committed, or forgotten, together, and a row's changes are written in their order,
// since whoever changes it has it locked.
const keepJournal = `
CREATE TABLE journal (
	seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, began timestamptz NOT NULL,
	batch bigint NOT NULL, job bigint NOT NULL,
	was_state smallint NOT NULL, was_attempt int NOT NULL, was_session bigint, was_expires timestamptz, was_ended_as text,
	was_ended_session bigint, was_done int NOT NULL,
	state smallint NOT NULL, attempt int NOT NULL, session bigint, expires timestamptz, ended_as text,
	ended_session bigint, done int NOT NULL);
CREATE TABLE offenses (what text NOT NULL);
CREATE FUNCTION journal_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO journal (at, began, batch, job, was_state, was_attempt, was_session, was_expires, was_ended_as, was_ended_session,
		was_done, state, attempt, session, expires, ended_as, ended_session, done)
	VALUES (clock_timestamp(), statement_timestamp(), new.id, new.job_id, old.state, old.attempt, old.session_id, old.lease_expires_at, old.ended_as,
		old.ended_session, old.done_items, new.state, new.attempt, new.session_id, new.lease_expires_at, new.ended_as,
		new.ended_session, new.done_items);
	RETURN NULL; END $$;
CREATE TRIGGER journal AFTER UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION journal_batch();
CREATE FUNCTION journal_offense() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO offenses VALUES (tg_op || ' of ' || tg_table_name || ': ' || old::text || coalesce(' becomes ' || new::text, ''));
	RETURN NULL; END $$;
CREATE TRIGGER journal AFTER UPDATE OR DELETE ON attempts FOR EACH ROW EXECUTE FUNCTION journal_offense();
CREATE TRIGGER journal AFTER UPDATE OF outcome, findings OR DELETE ON store_items FOR EACH ROW EXECUTE FUNCTION journal_offense();
CREATE TRIGGER journal AFTER UPDATE ON fences FOR EACH ROW WHEN (new.attempt < old.attempt) EXECUTE FUNCTION journal_offense();`

// The states of batches in the database.
const (
	batchPending   = 0
	batchRunning   = 1
	batchCompleted = 2
)

// change is one of a batch's row.
type change struct {
	Seq      int64
	Batch    int64
	Was, Now lease
	Late     bool // it happened after the lease that was had run out
	Live     bool // the lease that it leaves had not run out when its statement began: on a busy machine one may take long
}

// lease is what a batch's row says of it.
type lease struct {
	State        int16
	Attempt      int32
	Session      int64 // 0 for none
	EndedAs      string
	EndedSession int64
	Done         int32
}

// journal reads what the database wrote down of a job.
func journal(t testing.TB, conn *pgx.Conn, job int64) []change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), queryTimeout)
	defer cancel()
	rows, err := conn.Query(ctx, `
		SELECT seq, batch, coalesce(at >= was_expires, true), coalesce(began < expires, false),
			was_state, was_attempt, coalesce(was_session, 0), coalesce(was_ended_as, ''), coalesce(was_ended_session, 0), was_done,
			state, attempt, coalesce(session, 0), coalesce(ended_as, ''), coalesce(ended_session, 0), done
		FROM journal WHERE job = $1 ORDER BY seq`, job)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (change, error) {
		var c change
		err := row.Scan(&c.Seq, &c.Batch, &c.Late, &c.Live,
			&c.Was.State, &c.Was.Attempt, &c.Was.Session, &c.Was.EndedAs, &c.Was.EndedSession, &c.Was.Done,
			&c.Now.State, &c.Now.Attempt, &c.Now.Session, &c.Now.EndedAs, &c.Now.EndedSession, &c.Now.Done)
		return c, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// breach says which rule a change of a batch broke, "" for none. before is what the journal last said of the batch.
func (c change) breach(before *lease) string {
	was, now := c.Was, c.Now
	switch {
	case before != nil && *before != was:
		return "it was changed without a word"
	case was.State > batchCompleted && now.State == batchPending: // tried again by hand
		if now.Attempt != was.Attempt || now.EndedAs != was.EndedAs || now.EndedSession != was.EndedSession {
			return "an ended attempt changes"
		}
	case now.Done < was.Done:
		return "what was done is undone"
	case was.State != batchRunning && now.State == batchRunning:
		switch {
		case was.State != batchPending:
			return "an ended batch is claimed"
		case now.Attempt != was.Attempt+1:
			return "a claim does not count"
		case !c.Live:
			return "a lease is granted that has run out"
		case now.EndedAs != was.EndedAs || now.EndedSession != was.EndedSession:
			return "a claim changes how the attempt before it ended"
		}
	case now.Attempt != was.Attempt:
		return "the attempt changes without a claim"
	case was.State == batchRunning && now.State == batchRunning:
		if now != (lease{State: batchRunning, Attempt: was.Attempt, Session: was.Session, EndedAs: was.EndedAs,
			EndedSession: was.EndedSession, Done: now.Done}) {
			return "a live lease changes hands"
		}
	case was.State == batchRunning:
		switch {
		case now.EndedSession != was.Session || now.EndedAs == "":
			return "an attempt ends without a word how"
		case (now.EndedAs == "lost" || now.EndedAs == "died") && !c.Late:
			return "a lease is ended that has not run out"
		}
	case now.EndedAs != was.EndedAs || now.EndedSession != was.EndedSession || now.Done != was.Done && was.State != batchPending:
		return "an ended attempt changes"
	}
	return ""
}

// checkJournal fails the test for every rule of leases that was broken, and returns how many leases were granted.
func checkJournal(t testing.TB, conn *pgx.Conn, job int64) (claims int) {
	t.Helper()
	last := map[int64]*lease{}
	for _, c := range journal(t, conn, job) {
		if broken := c.breach(last[c.Batch]); broken != "" {
			t.Errorf("%s: change %d of batch %d: %+v", broken, c.Seq, c.Batch, c)
		}
		if c.Now.State == batchRunning && c.Was.State != batchRunning {
			claims++
		}
		last[c.Batch] = &c.Now
	}
	offenses := value[[]string](t, conn, `SELECT coalesce(array_agg(what), '{}') FROM offenses`)
	for _, what := range offenses {
		t.Errorf("what is final changes: %s", tail(what))
	}
	return claims
}

// checkNobodyAccused fails the test if anything is said to have crashed: an attempt, a batch, a counter, a log line. Only
// a batch that was given back may have been tried twice.
func (s *site) checkNobodyAccused(job *tallymanv1.Job, servers ...*process) {
	s.t.Helper()
	conn := s.connect()
	if ends := value[[]string](s.t, conn, `SELECT coalesce(array_agg(format('attempt %s at batch %s: %s, %s', attempt, batch_id, ended_as, message)),
		'{}') FROM attempts WHERE job_id = $1 AND ended_as NOT IN ('released', 'cancelled')`, job.GetJobId()); len(ends) > 0 {
		s.t.Errorf("%d attempts ended badly, want none:\n%s", len(ends), strings.Join(ends, "\n"))
	}
	if n := value[int64](s.t, conn, `SELECT batches_crashed_ever FROM jobs WHERE id = $1`, job.GetJobId()); n > 0 {
		s.t.Errorf("the job counts %d batches that crashed", n)
	}
	s.checkNoCrash(job, servers...)
}

// TestJournalTells lets every rule be broken by hand, so that the journal is known to see it.
func TestJournalTells(t *testing.T) {
	t.Parallel()
	pending := lease{State: batchPending, Attempt: 1, EndedAs: "released", EndedSession: 3}
	running := lease{State: batchRunning, Attempt: 2, Session: 4, EndedAs: "released", EndedSession: 3, Done: 2}
	over := lease{State: batchPending, Attempt: 2, EndedAs: "lost", EndedSession: 4, Done: 2}
	with := func(l lease, f func(*lease)) lease { f(&l); return l }
	for name, test := range map[string]struct {
		before *lease
		change change
		want   string
	}{
		"a claim":    {&pending, change{Was: pending, Now: running, Late: true, Live: true}, ""},
		"a renewal":  {&running, change{Was: running, Now: running, Live: true}, ""},
		"progress":   {nil, change{Was: running, Now: with(running, func(l *lease) { l.Done = 9 }), Live: true}, ""},
		"the reaper": {nil, change{Was: running, Now: over, Late: true}, ""},
		"a settle":   {nil, change{Was: running, Now: with(over, func(l *lease) { l.State, l.EndedAs = batchCompleted, "completed" })}, ""},
		"a retry":    {nil, change{Was: with(over, func(l *lease) { l.State = 5 }), Now: with(over, func(l *lease) { l.Done = 1 })}, ""},
		"too early":  {nil, change{Was: running, Now: over}, "a lease is ended that has not run out"},
		"stolen":     {nil, change{Was: running, Now: with(running, func(l *lease) { l.Session = 5 }), Live: true}, "a live lease changes hands"},
		"claimed while running": {nil, change{Was: running, Now: with(running, func(l *lease) { l.Session, l.Attempt = 5, 3 }), Live: true},
			"the attempt changes without a claim"},
		"the same attempt": {nil, change{Was: pending, Now: with(running, func(l *lease) { l.Attempt = 1 }), Live: true}, "a claim does not count"},
		"behind its back":  {&over, change{Was: pending, Now: running, Live: true}, "it was changed without a word"},
		"another end":      {nil, change{Was: over, Now: with(over, func(l *lease) { l.EndedAs = "completed" })}, "an ended attempt changes"},
		"undone":           {nil, change{Was: running, Now: with(running, func(l *lease) { l.Done = 1 }), Live: true}, "what was done is undone"},
		"expired grant":    {nil, change{Was: pending, Now: running}, "a lease is granted that has run out"},
		"after the end": {nil, change{Was: with(over, func(l *lease) { l.State = batchCompleted }), Now: with(running, func(l *lease) { l.Attempt = 3 }),
			Live: true}, "an ended batch is claimed"},
	} {
		if got := test.change.breach(test.before); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func (c change) String() string { return fmt.Sprintf("%+v", struct{ Was, Now lease }{c.Was, c.Now}) }
