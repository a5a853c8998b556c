// Command peers runs scenarios of package bench beside the same work done by well-known queues, in turns, on the same
// database server, and prints how they compare. It is a module of its own, so that nobody else gets its dependencies.
//
// The peers are River (on PostgreSQL, in this process), Graphile Worker (on PostgreSQL, in a process of node, by way of
// graphile/peer.mjs), asynq (in this process, on a Redis of its own that flushes every change, as the others do) and
// Temporal (on PostgreSQL, in a process of its own, see bench/temporal).
//
// What the peers do is not the same: River, for one, works in the process that measures, keeps one row a job and knows no leases;
// Tallyman's workers are processes of their own that speak gRPC to a coordinator, and each batch carries a payload, an
// outcome for each item and a fencing token. That is the point of the comparison: what the safety costs. The peers run
// with the settings of their own benchmarks where they have one, otherwise with their defaults.
package main
