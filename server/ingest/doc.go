// Package ingest turns the bytes of an upload into batches, in one pass and constant memory:
//
//	bytes ─ Reader ─► lines ─ Identify ─► items ─ Cutter ─► batches ─ payload ─► frames ─ Run ─► groups ─► Sink
//
// It knows neither uploads nor the store. The Sink commits each group together with the position after it, and from any
// such position the reading resumes and makes the same batches: where an upload is cut depends on its content alone,
// never on time or on how its bytes arrive.
//
// A bad item is an outcome of that item. What is wrong with the file itself is a FormatError, with place and code: the
// items before it count, those behind it do not exist.
package ingest
