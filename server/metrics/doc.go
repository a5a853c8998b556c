// Package metrics counts what a coordinator does, and shows it, with what its database is at, in the form that Prometheus
// reads.
//
// What counts declares a small interface where it does (dispatch.Meter, api.Meter); the type Metrics implements these, and is the only one
// that knows of Prometheus. There is no global registry. What is read of the database is read once for all who ask within
// some seconds.
//
// No label says which job, batch, document, project or worker something was about: the number of series grows with none of
// them. Kinds are a label; past the first of them they are shown as one.
package metrics
