// Package api serves the gRPC services: it checks requests, translates between the protocol and package job, and maps
// errors to statuses. It holds no state of its own beyond the streams that are open.
//
// Interceptors, from the outside in: the log (debug), the mapping of errors, recovery, authentication, the rate limit,
// validation.
package api
