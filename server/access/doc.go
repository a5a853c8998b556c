// Package access says who may do what: the roles, who makes a call, and the rule of every call. What has no rule is refused.
//
// There is one table, Of, from the full name of an RPC to its rule. The gRPC interceptors look there, and so does HTTP, whose
// routes name the RPC that they stand for, or have a rule of their own where there is none. An Identity travels in the context
// of a call; what is served by HTTP carries it on into the calls that it makes.
package access
