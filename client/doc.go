// Package client is for programs that submit uploads to a coordinator and follow them.
//
//	c, err := client.New(client.Config{Address: "127.0.0.1:7650"})
//	...
//	defer c.Close()
//	result, err := c.Upload(ctx, file, client.Upload{Project: "bc5cdr", FileName: "bc5cdr.jsonl"})
//	...
//	for job, err := range c.Watch(ctx, result.JobID) {
//		...
//	}
//
// # What survives what
//
// Every call is safe to repeat, and the client repeats it, at another coordinator if it was given several addresses: what
// fails because the coordinator cannot be reached, is shutting down, cannot reach its database or asks to be called less
// often is tried again, after a growing pause with jitter, until Config.RetryFor has passed without success. An upload
// goes on where the coordinator's committed data ends, a watch with the first snapshot that was not seen. Only the very
// first contact is not repeated, so that a wrong address is reported at once.
//
// # Errors
//
// What the coordinator, or the way to it, refuses is an [*Error] with the reason from the protocol. Errors of the
// caller's own making (a source that cannot be read, a context that ended) are wrapped as they are.
//
// The messages are those of the protocol, package tallymanv1. They are the caller's once returned.
package client
