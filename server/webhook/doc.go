// Package webhook tells somebody outside, by HTTP, that jobs have ended and that too much crashes.
//
//	fold that ends a job ──► deliveries ◄── crash rate above the limit, once an hour
//	                             │
//	                             ▼ taken by one coordinator at a time
//	                         POST, signed ──► 2xx: over
//	                             │
//	                             └──► anything else: again, ever more seldom, for a day
//
// What is to be sent is in the database from the transaction on that made it true, so that no restart loses it. It is sent at
// least once: who takes it, sends it and dies before that is noted leaves it to somebody else, who sends it again under the same
// id.
package webhook
