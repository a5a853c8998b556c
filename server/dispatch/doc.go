// Package dispatch carries claims, heartbeats and settles between the API and the store.
//
// Each of the three is collected by one loop that takes whatever arrived while its previous statement ran, and does it
// in one transaction: under load a commit is shared by many callers, when it is quiet a caller waits for nobody. There
// are no timers in this and no added delay.
//
//	ClaimBatches ──► waiters ──┐  woken by: a new waiter, committed batches, returned batches,
//	                           │            the end of one under a limit,
//	                           ▼            another coordinator's note, a poll once a second
//	                  board: whose turn is it? ──► store.Claim ──► ledger ──► grants
//
//	Heartbeat ─────► group ──► store.Beat ────► ledger
//	SettleBatches ─► group ──► store.Settle ──► ledger
//
// A settlement that asks for the next batches goes the way of claims, with store.SettleAndClaim, but does not wait for work.
//
// The ledger is the coordinator's memory of the leases that it granted or saw beat. It is a hint for the reaper and for
// pushing cancels, never the truth: the truth is the batch's row.
package dispatch
