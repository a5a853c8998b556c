// Package ingest turns the bytes of an upload into batches, in one pass and constant memory:
//
//	bytes ─ walker ─► files ─ values ─► items ─ Identify, Cutter ─► batches ─ payload ─► frames ─ Run ─► groups ─► Sink
//	└────────────── Reader ──────────────┘
//
// The walker goes through archives and compression to the files inside; values are read from a file in one of the forms
// that JSON comes in. docs/formats.md has all of them.
//
// Three things go on at once, each a little ahead of what it gives to: items are read and cut by one goroutine, batches are
// packed by a few, and groups are committed by the caller's. So a large upload keeps as many processors busy; what is in
// between is bounded, and in the order of the upload.
//
// The package knows neither uploads nor the store. The Sink commits each group together with the position after it, and
// from any such position the reading resumes and makes the same batches: where an upload is cut depends on its content
// alone, never on time or on how its bytes arrive.
//
// A bad item is an outcome of that item, and so is what stands in the place of a file, or of the rest of one, and cannot be
// read while other things can. What is wrong with the upload itself is a FormatError, with place and code: the items before
// it count, those behind it do not exist.
package ingest
