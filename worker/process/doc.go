// Package process is a handler that has batches handled by a command, in any language, in processes of its own: what kills
// such a process does not kill the worker, which names the item that the process had. docs/exec.md introduces it; this
// page says what it does with a process, and what when that misbehaves.
//
// # A process, in mode Stream
//
// There is a process for each batch in hand. It gets an item a line on standard input and answers with a line on standard
// output; only then it gets the next one. So it is known at any time which item it has, and neither pipe is ever full for
// long. Between batches it waits, for one of the same project, kind, mode and parameters: these are in its environment.
//
//	take      ready, or at once       line written       line read
//	────▶ starting ──────────▶ waiting ─────────▶ working ─────────▶ waiting …
//	         │                   │                  │
//	         │ ended             │ ended            │ ended, too slow, too large: killed
//	         ▼                   ▼                  ▼
//	   another one, at most 3    another one      worker.Crash: the item is the suspect
//
// Whether a process has read its item tells the pipe, on Linux: the item that is still in there whole is not accused. A
// process that ends after each answer, or after a thousand, is therefore fine, and one that cannot start accuses nobody.
//
// # A process, in mode Batch
//
// There is a process for each batch. It gets all items, and the end of its input; its exit code is the answer for all.
//
// # What it does, and what that means
//
//	                                      mode Stream                     mode Batch
//	it is killed by a signal              Crash, the item the suspect     Crash, suspect unknown
//	it exits with another code, or 0,     Crash, the item the suspect     code 0: stored; another:
//	  with an item unanswered                                             failed
//	it exits with code 75                 failed                          failed
//	it passes a limit on memory           killed: as by a signal          killed: as by a signal
//	it takes too long for the item        killed: as by a signal          –
//	it takes too long for the batch       failed                          killed: as by a signal
//	it does not read its item in time     failed                          nothing
//	it answers what is no answer, or      killed: as by a signal; but     output is kept: failed if it is
//	  several lines, or too long a one      failed when the command has     too long; else nothing
//	                                        no credit, see below
//	it writes a line before it has        another one, at most 3          –
//	  an item
//	it closes what it should not          failed                          output is kept: failed; else nothing
//	it cannot be started                  failed, or Unavailable when this host is full
//	it is to stop: lease lost, job        asked by SIGTERM, killed by SIGKILL after Config.StopTimeout
//	  cancelled, worker drained
//
// "Failed" is an error that is worth another attempt, with what was answered until then kept. In all these cases the
// process and those it started are gone when Handle returns.
//
// That no answer came is taken for the item's fault only if the command answers others as it should: each answer gives it
// credit, and what is none takes twice as much. A command that never had any is tried with the two items that follow, which
// are handled again in their turn.
//
// # An isolated handler
//
// [Isolated] has a handler in Go do its work in such a process, which calls [Serve]: it gets batches, one after the other,
// the deadlines of their leases and reasons to stop, and tells which item it has begun with, results, questions for the
// coordinator, and how it ended. Deadlines cross by a clock that all processes of the machine share, so that one that was
// frozen is no later for it.
//
//	it dies, a panic included, after Begin(i)     Crash, item i the suspect
//	it dies otherwise                             Crash, suspect unknown
//	it dies before it has taken the batch         another one, at most 3; then failed, with code 75 Unavailable
//	it returns an error                           that error: Permanent, Unavailable and lost leases keep their meaning
//
// # That none is left behind
//
// Each process leads a group of its own, which gets SIGKILL when the process ends, is discarded, or the worker goes. When the
// worker is killed, two others see to that: the kernel, on Linux, for the process itself, by the parent-death signal; and
// the guard, on every Unix, for its whole group: a small shell that reads from a pipe which the kernel closes with the
// worker. What leaves its group (setsid, a daemon, an interactive shell's jobs) is not found. On Windows only the
// process itself is killed, and only by a worker that lives.
package process
