package sqlite

import (
	"context"
	"errors"
	"sync"
)

// jointMost bounds how many callers share a transaction: others wait for the connection meanwhile.
const jointMost = 256

// joint has small writes of many callers committed together: the first of those that wait for the connection carries the
// others. When thousands of workers join at once, a flush of the disk for each would take minutes.
type joint struct {
	mu      sync.Mutex
	waiting []*joining // the first that has not left leads
}

// joining is one caller's write.
type joining struct {
	ctx      context.Context
	write    func(*tx) error
	err      error         // of it; to be read once done is closed
	leads    chan struct{} // closed when its caller is to make what waits
	done     chan struct{} // closed when its transaction has ended
	standing standing      // of the lock of joint
}

// standing is where a caller stands.
type standing int

const (
	waiting standing = iota
	leading
	taken // into a transaction
	left
)

// together is write with the priority of settlements, in a transaction that others may share. A write that fails undoes only
// itself; what it has found out holds once together has returned without an error.
func (s *Store) together(ctx context.Context, f func(*tx) error) error {
	one := &joining{ctx: ctx, write: f, leads: make(chan struct{}), done: make(chan struct{})}
	s.joint.enter(one)
	select {
	case <-one.leads:
	case <-one.done:
	case <-ctx.Done():
	}
	stands := s.joint.leave(one)
	if stands == left {
		return context.Cause(ctx)
	}
	if stands == leading { // others rely on it, whatever becomes of its caller
		s.lead(context.WithoutCancel(ctx))
	}
	<-one.done
	return one.err
}

// lead makes the writes that wait, the caller's first.
func (s *Store) lead(ctx context.Context) {
	var group []*joining
	err := errors.New("the transaction was not committed")
	defer func() { // also after a panic
		for _, one := range group {
			if err != nil {
				one.err = err
			}
			close(one.done)
		}
	}()
	err = s.write(ctx, settling, func(t *tx) error {
		group = s.joint.take()
		for _, one := range group {
			if err := t.alone(one); err != nil {
				return err
			}
		}
		return nil
	})
	if group == nil { // there was no transaction
		group = s.joint.take()
	}
}

func (j *joint) enter(one *joining) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.waiting = append(j.waiting, one); len(j.waiting) == 1 {
		one.standing = leading
		close(one.leads)
	}
}

// leave takes a caller out who still waits for somebody else, and returns where it stands.
func (j *joint) leave(one *joining) standing {
	j.mu.Lock()
	defer j.mu.Unlock()
	if one.standing == waiting {
		one.standing = left
	}
	return one.standing
}

// take takes writes out, that of the leader first, and appoints who leads the rest.
func (j *joint) take() (group []*joining) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, one := range j.waiting {
		switch {
		case one.standing == left:
		case len(group) < jointMost:
			one.standing = taken
			group = append(group, one)
		default:
			one.standing = leading
			close(one.leads)
			j.waiting = j.waiting[i:]
			return group
		}
	}
	j.waiting = nil
	return group
}

// alone makes one of several writes in such a way that it can be undone alone. An error says that the transaction is lost.
func (t *tx) alone(one *joining) error {
	select {
	case <-one.ctx.Done():
		one.err = context.Cause(one.ctx)
		return nil
	default:
	}
	if err := t.exec("SAVEPOINT joining"); err != nil {
		return err
	}
	if one.err = one.write(t); one.err != nil {
		if err := t.exec("ROLLBACK TO joining"); err != nil {
			return errors.Join(one.err, err)
		}
	}
	return t.exec("RELEASE joining")
}
