package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/annotation/store/internal/write"
)

// group is a transaction of the file that transactions of several writers share, so that they wait for the disk together.
// Each of them is a savepoint in it. Who has the turn may add one; who has added one waits until the group has ended, and
// for the turn meanwhile, behind those who wait for it already: whoever has it again first ends the group. So a group is
// made of those who have come while the one before it ended, a lone writer waits for nobody, and a group never stays open
// without somebody who will end it.
type group struct {
	began time.Time
	ends  []func() time.Time // until when each member may be committed; nil: whenever
	done  chan struct{}
	err   error // why nothing of it is committed; set when done is closed
}

// groupTime is how long others may add to a group. Other processes wait for the file so long, and for its last member.
const groupTime = 50 * time.Millisecond

var (
	errLate  = errors.New("the lease of somebody in the same transaction has run out") // whose it is finds out in its next try
	errEnded = errors.New("the transaction was given up for somebody else in it")
)

// begin begins a transaction, once it has the turn.
func (e *engine) begin(ctx context.Context) (*tx, error) {
	select {
	case <-e.closed:
		return nil, errClosed
	default:
	}
	select {
	case e.turn <- struct{}{}:
	case <-e.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the connection: %w", context.Cause(ctx))
	}
	if err := e.join(ctx); err != nil {
		<-e.turn
		return nil, fmt.Errorf("begin transaction: %w", err)
	}
	// From here on nothing waits, so a transaction is not interrupted: it is short, and looks at ctx between statements.
	return &tx{engine: e, ctx: ctx, group: e.group, began: time.Now(), open: true}, nil
}

// join opens a savepoint in the group, which it begins if there is none.
func (e *engine) join(ctx context.Context) error {
	if e.group == nil {
		if _, err := e.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
			// An interruption may come when the transaction is open already; if it is not, there is nothing to give up.
			_ = e.run("ROLLBACK")
			return err
		}
		e.group = &group{began: time.Now(), done: make(chan struct{})}
	}
	if err := e.run("SAVEPOINT member"); err != nil {
		e.abandon(err)
		return err
	}
	return nil
}

// commit adds the transaction to its group and waits until that is committed, at a time before end unless that is nil.
func (t *tx) commit(end func() time.Time) error {
	e, g := t.engine, t.group
	if err := e.run("RELEASE member"); err != nil {
		t.failed = err
		return err
	}
	g.ends = append(g.ends, end)
	t.open, t.busy = false, time.Since(t.began)
	if time.Since(g.began) < groupTime {
		<-e.turn // to who waits for it
		select {
		case e.turn <- struct{}{}:
		case <-g.done:
			return g.err
		}
	}
	if e.group == g {
		e.end()
	}
	<-e.turn
	return g.err
}

// end commits the group, unless it is too late for one in it.
func (e *engine) end() {
	for _, end := range e.group.ends {
		if end != nil && !time.Now().Before(end()) {
			e.abandon(errLate)
			return
		}
	}
	if err := e.run("COMMIT"); err != nil {
		e.abandon(err)
		return
	}
	close(e.group.done)
	e.group = nil
}

// abandon gives the group up. Those who are in it try again if the reason may pass, as it may unless it is the file's.
func (e *engine) abandon(reason error) {
	_ = e.run("ROLLBACK") // where SQLite has rolled back by itself, there is nothing left to do
	e.group.err = reason
	close(e.group.done)
	e.group = nil
}

// Rollback implements [write.Tx]. The others in the group stay, if SQLite lets them.
func (t *tx) Rollback() {
	if !t.open {
		return
	}
	t.open = false
	e := t.engine
	err := errors.Join(e.run("ROLLBACK TO member"), e.run("RELEASE member"))
	if err != nil || len(e.group.ends) == 0 {
		e.abandon(t.reason())
	}
	<-e.turn
}

// reason is that for which others in its group are told that the transaction was given up.
func (t *tx) reason() error {
	if f, _ := fault(t.failed); f == write.Transient || f == write.Full {
		return t.failed
	}
	return errEnded
}

// run runs a statement that ends or begins something, whatever becomes of who asked for that.
func (e *engine) run(query string) error {
	s, err := e.prepared(query) //nolint:sqlclosecheck // it is kept for the transactions to come
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.Background())
	return err
}
