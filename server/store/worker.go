package store

import "context"

// Worker is a session of a worker with what people want to know when they look at it.
type Worker struct {
	Session
	Held     []BatchRow // by id
	Attempts []Attempt  // that did not complete, newest first
}

// Workers is what is known of single workers.
type Workers interface {
	// GetWorker returns a worker's newest session, with at most so many of the batches it holds and so many of its last
	// attempts that did not complete. ErrNotFound, also when its sessions have been forgotten.
	GetWorker(ctx context.Context, workerID string, held, attempts int) (Worker, error)
}
