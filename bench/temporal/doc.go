// Command temporal does what Temporal does of the benches, for the program peers: its server, on two empty databases that
// it is given, with client and worker in one process. It is a module of its own, since it asks for an older OpenTelemetry
// than ours does, and so it imports nothing of ours. What it measured it writes as JSON:
//
//	temporal drain --database DSN --visibility DSN --slots 1000 --batches 5000
//	{"seconds": 12.3, "bytes": 123456}
//	temporal latency --database DSN --visibility DSN --jobs 100 --pause 120ms
//	{"milliseconds": [12.3, …]}
//	temporal version
//
// There is no queue that could be full before it is drained: workflows fan out to activities that do nothing, and the time
// counts from their start until the results of all have come. Latency is the time from the call that starts a workflow
// until its only activity begins.
package main
