// Package rest serves the API by HTTP and JSON, for those who have curl or a browser rather than gRPC.
//
// Calls with one answer go through code that is generated from proto/http.yaml. The streams have forms that suit HTTP: an
// upload is the body of a POST, a watch sends server-sent events, items and results come as JSON Lines. Every call is made
// over gRPC to a coordinator, so that nothing is decided here: what a call does, its limits and its errors are those of
// the protocol.
package rest
