// Package worker is for programs that handle batches. A [Worker] registers with a coordinator, claims batches for its
// free slots, keeps their leases alive while a [Handler] works on them, and settles what came of it. docs/writing-a-worker.md
// introduces it; this page says what it does with a lease, and what it does when something breaks.
//
// # A lease, seen from the worker
//
// A lease is the right to work on one batch for a limited time. Its number, the attempt, grows with every claim of the
// batch, so that whoever stores something can tell a late writer from the present one.
//
//	claim answered
//	      │
//	      ▼    handler returns        settle answered
//	  handling ───────────────▶ settling ──────────▶ over
//	   │    │                    ▲    │
//	   │    │ more to tell       │    │
//	   │    │ than one settle    │    │
//	   │    │ takes              │    │
//	   │    └────▶ flushing ─────┘    │
//	   │              │ beats have    │
//	   │              │ carried it    │ clock has run out,
//	   │ verdict LOST,│               │ or the answer says so
//	   │ clock out    │ the same      │
//	   ▼              ▼               ▼
//	  lost: the handler is told ErrLeaseLost, and nothing is settled
//
// While it is handling, a verdict CANCEL, or the end of the worker, ends the handler's context; the lease stays, and is
// settled as cancelled or released with what was reported until then.
//
// Every held lease, whatever its stage, is named in every beat: one that two beats in a row do not name is released by
// the coordinator. A verdict LOST about a lease that is settling is not believed, because it may be lost for being
// settled; the answer to the settlement, which is the same however often it is repeated, decides.
//
// # The lease's clock
//
// The worker keeps time by its own monotonic clock and errs on the short side: a lease that was granted ends at (time
// the claim was sent + time the coordinator says it waited + what it says is left), one that was renewed at (time the
// answered beat was sent + duration of a lease). A lease whose clock has run out is given up: by then it may be another
// worker's. What it did until then is for the fencing token to keep or refuse. The worker goes on to say that it has given
// it up, or how the work had ended before, until that is answered: after an outage of the coordinators nobody else has the
// lease yet, and nobody then needs to be taken for lost.
//
// # What is durable
//
// What a handler reports becomes final when the coordinator has recorded it. Beats carry it at most once a second beside
// their own pace, and the rest goes with the settlement; neither repeats what an answer has acknowledged. A batch that
// is handled again begins behind what was recorded.
//
// # What breaks, and what happens
//
//	a call fails                    the coordinator, the network or the database is away: it is repeated, after a growing
//	                                pause with jitter, at another coordinator if there is one; the outage is logged
//	an answer to a claim is lost    the claim is repeated under its request_id and brings the same leases
//	an answer to a settle is lost   the settle is repeated as it is until answered
//	a settle is refused             the batch is settled as failed, without outcomes
//	the heartbeat stream breaks     it is opened again at once, with a beat
//	a beat is not answered          after half a lease its connection is given up and another one made, with several
//	                                addresses perhaps to another coordinator
//	the coordinator restarts        leases go on by their clocks; handlers notice nothing
//	no beat is answered in time     the lease's clock runs out: ErrLeaseLost, and it is given back
//	the process was frozen          the same, when it wakes
//	the job is cancelled            ErrJobCancelled, at once, and the batch is settled as cancelled
//	the job is paused               ErrJobPaused, at once, and the batch is given back without what was reported
//	the handler returns an error    the batch is settled as failed, to be tried again unless Permanent
//	the error is Unavailable        the batch is given back, and nothing is claimed for a while
//	the error is a Crash            the batch is settled as died, with what is known of the process that did
//	the handler panics              as for an error, with the panic and its stack in message and log
//	the handler forgets items       the same
//	the handler does not stop       its slot stays taken, which is logged; at the end of Run it is an error
//	the payload is damaged          the batch is settled as failed
//	the session has ended           handlers are told ErrLeaseLost, nothing is settled, Run returns ErrSessionEnded
//	Run is told to stop             handlers may finish for a while; then ErrDraining, and what is left is given back
//	jobs are deleted                handlers that keep records of them are told so, ten leases later
//	the process is killed           the coordinator sees the stream break and has the batches done again
package worker
