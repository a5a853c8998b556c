package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// member is a transaction that raises the fence of a batch, and what becomes of it.
type member struct {
	batch int64
	does  func(*tx) error  // nil: nothing besides
	end   func() time.Time // nil: whenever
	group *group           // that it was in
	err   error
}

func (m *member) run(ctx context.Context, e *engine) {
	tx, err := e.begin(ctx)
	if err != nil {
		m.err = err
		return
	}
	defer tx.Rollback()
	m.group = tx.group
	if m.err = tx.exec(`INSERT INTO fences (batch_id, attempt) VALUES (?, 1)`, m.batch); m.err == nil && m.does != nil {
		m.err = m.does(tx)
	}
	if m.err == nil {
		m.err = tx.commit(m.end)
	}
}

// bubble is a test with a store of its own, in which waiting goroutines can be waited for.
type bubble struct {
	*testing.T
	store *Store
}

func inBubble(t *testing.T, test func(bubble)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		test(bubble{t, s})
	})
}

func (b bubble) close() {
	if err := b.store.Close(); err != nil {
		b.Error(err)
	}
}

// together runs transactions that all wait for the turn before the first has it, until they have ended.
func (b bubble) together(members ...*member) {
	b.Helper()
	e := b.store.writing
	e.turn <- struct{}{}
	for _, m := range members {
		go m.run(b.Context(), e)
		synctest.Wait()
	}
	<-e.turn
	synctest.Wait()
}

// fences returns the batches that have one.
func (b bubble) fences() []int64 {
	b.Helper()
	rows, err := b.store.reading.QueryContext(b.Context(), `SELECT batch_id FROM fences ORDER BY batch_id`)
	if err != nil {
		b.Fatal(err)
	}
	var batches []int64
	var batch int64
	if err := scan(rows, []any{&batch}, func() { batches = append(batches, batch) }); err != nil {
		b.Fatal(err)
	}
	return batches
}

func TestGroup(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	fails := func(*tx) error { return broken }
	refused := func(tx *tx) error { return tx.exec(`INSERT INTO fences (batch_id, attempt) VALUES (99, -1)`) }
	undone := func(tx *tx) error { return errors.Join(tx.engine.run("ROLLBACK"), broken) } // as SQLite does by itself
	for _, test := range []struct {
		name    string
		members []*member
		want    []int64 // fences
		faults  []write.Fault
		errs    []error // nil: nobody has it
		groups  int
	}{
		{"all", []*member{{batch: 1}, {batch: 2}, {batch: 3}}, []int64{1, 2, 3}, nil, []error{nil, nil, nil}, 1},
		{"alone", []*member{{batch: 1}}, []int64{1}, nil, []error{nil}, 1},
		{"one fails", []*member{{batch: 1}, {batch: 2, does: fails}, {batch: 3}}, []int64{1, 3}, nil, []error{nil, broken, nil}, 1},
		{"the first fails", []*member{{batch: 1, does: fails}, {batch: 2}}, []int64{2}, nil, []error{broken, nil}, 2},
		{"the last fails", []*member{{batch: 1}, {batch: 2, does: fails}}, []int64{1}, nil, []error{nil, broken}, 1},
		{"one is refused", []*member{{batch: 1}, {batch: 2, does: refused}, {batch: 3}}, []int64{1, 3},
			[]write.Fault{write.Broken, write.Refused, write.Broken}, nil, 1},
		{"one is late", []*member{{batch: 1}, {batch: 2, end: time.Now}, {batch: 3}}, nil, nil, []error{errLate, errLate, errLate}, 1},
		{"SQLite gives up", []*member{{batch: 1}, {batch: 2, does: undone}, {batch: 3}}, []int64{3}, nil, []error{errEnded, broken, nil}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t bubble) {
				defer t.close()
				t.together(test.members...)
				if diff := cmp.Diff(test.want, t.fences()); diff != "" {
					t.Errorf("fences (-want +got):\n%s", diff)
				}
				var groups []*group
				for i, m := range test.members {
					if test.errs != nil && !errors.Is(m.err, test.errs[i]) {
						t.Errorf("transaction %d ends with %v, want %v", i+1, m.err, test.errs[i])
					}
					if test.faults != nil {
						if f, _ := fault(m.err); f != test.faults[i] {
							t.Errorf("transaction %d ends with %v, which means %d, want %d", i+1, m.err, f, test.faults[i])
						}
					}
					if !slices.Contains(groups, m.group) {
						groups = append(groups, m.group)
					}
				}
				if len(groups) != test.groups {
					t.Errorf("%d groups, want %d", len(groups), test.groups)
				}
				if t.store.writing.group != nil || len(t.store.writing.turn) != 0 {
					t.Error("a transaction is left open")
				}
			})
		})
	}
}

// TestGroupEnds lets a group end when its time is over, though others wait.
func TestGroupEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t bubble) {
		defer t.close()
		members := []*member{{batch: 1}, {batch: 2}, {batch: 3}}
		members[1].does = func(tx *tx) error {
			tx.group.began = tx.group.began.Add(-groupTime)
			return nil
		}
		t.together(members...)
		if members[0].group != members[1].group || members[1].group == members[2].group {
			t.Error("the third is in the group, want it to end with the second")
		}
		for i, m := range members {
			if m.err != nil {
				t.Errorf("transaction %d: %v", i+1, m.err)
			}
		}
	})
}

// TestGroupIsClosed closes the store while a transaction is under way, which is committed then.
func TestGroupIsClosed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t bubble) {
		m, proceed := &member{batch: 1, err: errors.New("not yet")}, make(chan struct{})
		m.does = func(*tx) error {
			<-proceed
			return nil
		}
		t.together(m)
		go t.close()
		synctest.Wait()
		close(proceed)
		synctest.Wait()
		if m.err != nil {
			t.Errorf("the transaction ends with %v", m.err)
		}
	})
}
