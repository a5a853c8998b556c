// Package server is the coordinator: it wires the store, the dispatcher, the reaper, the watchers and the API into one
// process. It holds no truth: any number of coordinators may run on one Postgres database.
//
//	            ┌──────────── api ────────────┐
//	uploads ────┤ ingest ─► store             │
//	workers ────┤ dispatch ─► store ─► ledger │◄── reaper
//	watchers ◄──┤ watch ◄─ folder ◄─ store    │
//	            └─────────────────────────────┘
package server
