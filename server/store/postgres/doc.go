// Package postgres is the coordinator's store on PostgreSQL, for any number of coordinators on one database.
//
// The lease lives in the batch's row. Claim, renew, settle and reap each are one statement over arrays that repeats its
// own condition on (id, attempt, session_id), so that coordinators need no leader. Where rows must be looked at before
// something is decided about them (what package job decides), they are locked first, in id order. Statements that take
// what nobody else has skip locked rows and so never wait; settlements wait.
//
//	who                     locks, in this order
//	claim                   sessions (advisory), batches SKIP LOCKED
//	beat                    batches SKIP LOCKED
//	settle                  batches
//	reap, sweep             batches SKIP LOCKED
//	ingest                  the upload, then its job once at the end
//	stop                    the upload, then its job
//	retry                   the upload, its job, named batches, then bad ends of the job's batches (advisory)
//	step of a retry         the job, then batches
//	bad ends of batches     batches, then a share of that advisory lock
//	fold                    the job, then sessions
//	register, end, silent   workers and sessions (advisory), sessions, batches
//	break stream            the session, then batches
//	delete                  the upload, then its job; later the job SKIP LOCKED and all that was its
//
// A transaction travels in few messages: BEGIN goes with its first statements and COMMIT with its last ones (type tx).
//
// Whatever changes what a job counts inserts one row per job into job_deltas in the same transaction and leaves the
// job's own row alone; Fold moves them. A snapshot that holds a delta holds those of the transactions that it built on,
// so that what is folded at once never makes a counter negative.
//
// Every time comes from the database's clock. clock_timestamp() stands in a sub-select where an index is searched with
// it, since a volatile function by itself cannot be.
package postgres
