package storetest

import (
	"errors"
	"slices"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// succeed settles, and claims at most most batches of a turn for a session, in one call.
func (f *fixture) succeed(sessionID int64, name string, most int, turn store.Turn, settlements ...store.Settlement) ([]store.SettleAnswer, []store.Grant, error) {
	f.Helper()
	settled, claimed, err := f.SettleAndClaim(f.ctx, settlements, long, []store.ClaimRequest{request(sessionID, name, most)}, []store.Turn{turn})
	f.must(err)
	return settled.Answers, claimed.Grants[0], claimed.Errs[0]
}

// successions: settlements that bring the next batches.
var successions = []scenario{
	{"who settles is given the next batch", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s := f.register("w")
		g := f.claimOne(s, "1", long, id)
		answers, next, err := f.succeed(s, "2", 1, store.Turn{JobID: id, Most: 1}, completed(g))
		f.must(err)
		f.equal("answers", answers, []store.SettleAnswer{{JobID: id, State: job.BatchCompleted}})
		f.equal("granted", ordinals(next), []int32{1})
		// The same again, since the answer was lost.
		answers, again, err := f.succeed(s, "2", 1, store.Turn{JobID: id, Most: 1}, completed(g))
		f.must(err)
		f.equal("answers again", answers, []store.SettleAnswer{{State: job.BatchCompleted}})
		if len(again) != 1 || again[0].Lease != next[0].Lease || !again[0].Repeated {
			f.Errorf("granted %+v again, before %+v", again, next)
		}
		// What was granted meanwhile may be over, too: then there is another one.
		f.settle(completed(next[0]))
		_, other, err := f.succeed(s, "2", 1, store.Turn{JobID: id, Most: 1}, completed(g))
		f.must(err)
		f.equal("granted when that was over", ordinals(other), []int32{2})
		f.settle(completed(other[0]))
		if j := f.audit(id, 0); j.State != job.Succeeded {
			f.Errorf("the job is %v", j.State)
		}
	}},
	{"an end makes room for the claim that comes with it", func(f *fixture) {
		id := f.submit("a", 1, 1, 1)
		s := f.register("w")
		g, _ := f.take(s, "1", limitedTurn(id, 1, 1))
		_, next, err := f.succeed(s, "2", 2, limitedTurn(id, 2, 1), completed(g[0]))
		f.must(err)
		f.equal("granted", ordinals(next), []int32{1})
	}},
	{"what a settlement returns may be claimed with it", func(f *fixture) {
		id := f.submit("a", 1)
		s := f.register("w")
		g := f.claimOne(s, "1", long, id)
		answers, next, err := f.succeed(s, "2", 1, store.Turn{JobID: id, Most: 1}, ended(g, job.EndReleased))
		f.must(err)
		f.equal("answers", answers, []store.SettleAnswer{{JobID: id, State: job.BatchPending}})
		if len(next) != 1 || next[0].BatchID != g.BatchID || next[0].Attempt != 2 {
			f.Errorf("granted %+v, want the second attempt at batch %d", next, g.BatchID)
		}
	}},
	{"settlements count whatever becomes of their claim", func(f *fixture) {
		id := f.submit("a", 1, 1)
		s := f.register("w")
		g := f.claimOne(s, "1", long, id)
		late := ended(g, job.EndFailed)
		late.Attempt++
		answers, next, err := f.succeed(s, "2", 1, store.Turn{}, completed(g), late)
		f.must(err)
		f.equal("answers", answers, []store.SettleAnswer{{JobID: id, State: job.BatchCompleted}, {Lost: true}})
		f.equal("granted without a turn", ordinals(next), []int32{})
		_, err = f.EndSession(f.ctx, s, "over")
		f.must(err)
		answers, next, err = f.succeed(s, "3", 1, store.Turn{JobID: id, Most: 1}, completed(g))
		if !errors.Is(err, store.ErrSessionEnded) || len(next) > 0 {
			f.Errorf("a session that ended was granted %+v, error %v", next, err)
		}
		if !slices.Equal(answers, []store.SettleAnswer{{State: job.BatchCompleted}}) {
			f.Errorf("answers %+v", answers)
		}
	}},
}
