package access

import (
	"maps"
	"slices"
)

// Rule says who may make a call.
type Rule struct {
	Open  bool   // for everybody, also those who do not say who they are
	Roles []Role // that may
	Reach Reach
}

// Reach says what a call touches, and with that how those who are confined to projects are kept within them.
type Reach uint8

// The reaches. The zero value is none: a rule without one permits nothing.
const (
	// Nothing of any project is in the request or the answer.
	Nothing Reach = iota + 1
	// Named: the request names the job, batch, upload or project, of which those who do not see the project learn that it does
	// not exist. The interceptor sees to that.
	Named
	// Listed: the answer is of many jobs, out of which the handler leaves those that the caller does not see. A job that
	// the request names is treated as with Named.
	Listed
	// Everything: all projects at once. Who is confined may not.
	Everything
)

// Permits reports whether an identity may make the call, whatever it is about.
func (r Rule) Permits(i Identity) bool {
	if r.Open {
		return true
	}
	return r.Reach != 0 && slices.Contains(r.Roles, i.Role) && (r.Reach != Everything || !i.Confined())
}

var (
	readers    = []Role{Viewer, Submitter, Admin}
	submitters = []Role{Submitter, Admin}
	workers    = []Role{Worker, Admin}
	admins     = []Role{Admin}
)

// Rules for what is no RPC.
var (
	// Open is for everybody: what is the same for all and no secret, such as a style sheet.
	Open = Rule{Open: true}
	// Known is for everybody who says who he is. What is served learns by whom it was asked for and shows no more than that one
	// may see.
	Known = Rule{Roles: AllRoles(), Reach: Listed}
	// Readers is for who may read, and is not confined: figures of all projects.
	Readers = Rule{Roles: readers, Reach: Everything}
)

// rules is the table: every RPC that is served, and nothing else.
var rules = map[string]Rule{
	"/tallyman.v1.JobService/SubmitUpload":  {Roles: submitters, Reach: Named},
	"/tallyman.v1.JobService/GetUpload":     {Roles: readers, Reach: Named},
	"/tallyman.v1.JobService/ListJobs":      {Roles: readers, Reach: Listed},
	"/tallyman.v1.JobService/WatchJob":      {Roles: readers, Reach: Named},
	"/tallyman.v1.JobService/WatchBatches":  {Roles: readers, Reach: Named},
	"/tallyman.v1.JobService/WatchJobs":     {Roles: readers, Reach: Listed},
	"/tallyman.v1.JobService/CancelJob":     {Roles: submitters, Reach: Named},
	"/tallyman.v1.JobService/PauseJob":      {Roles: submitters, Reach: Named},
	"/tallyman.v1.JobService/ResumeJob":     {Roles: submitters, Reach: Named},
	"/tallyman.v1.JobService/RetryJob":      {Roles: submitters, Reach: Named},
	"/tallyman.v1.JobService/DeleteJob":     {Roles: submitters, Reach: Named},
	"/tallyman.v1.JobService/GetBatch":      {Roles: readers, Reach: Named},
	"/tallyman.v1.JobService/ListBatches":   {Roles: readers, Reach: Listed},
	"/tallyman.v1.JobService/ListFindings":  {Roles: readers, Reach: Named},
	"/tallyman.v1.JobService/ExportItems":   {Roles: readers, Reach: Named},
	"/tallyman.v1.JobService/ExportResults": {Roles: readers, Reach: Named},
	// Workers ask whether jobs that they remember still exist.
	"/tallyman.v1.JobService/GetJob": {Roles: AllRoles(), Reach: Named},

	"/tallyman.v1.WorkerService/RegisterWorker":   {Roles: workers, Reach: Everything},
	"/tallyman.v1.WorkerService/ClaimBatches":     {Roles: workers, Reach: Everything},
	"/tallyman.v1.WorkerService/ReadBatch":        {Roles: workers, Reach: Everything},
	"/tallyman.v1.WorkerService/Heartbeat":        {Roles: workers, Reach: Everything},
	"/tallyman.v1.WorkerService/SettleBatches":    {Roles: workers, Reach: Everything},
	"/tallyman.v1.WorkerService/DeregisterWorker": {Roles: workers, Reach: Everything},

	"/tallyman.v1.AdminService/GetStatistics": {Roles: readers, Reach: Listed},
	"/tallyman.v1.AdminService/ListWorkers":   {Roles: readers, Reach: Nothing},
	"/tallyman.v1.AdminService/GetWorker":     {Roles: readers, Reach: Listed},
	"/tallyman.v1.AdminService/DrainWorker":   {Roles: admins, Reach: Everything},
	"/tallyman.v1.AdminService/CleanupJobs":   {Roles: admins, Reach: Everything},

	// Probes have no secrets.
	"/grpc.health.v1.Health/Check": Open,
	"/grpc.health.v1.Health/List":  Open,
	"/grpc.health.v1.Health/Watch": Open,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {Roles: AllRoles(), Reach: Nothing},
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {Roles: AllRoles(), Reach: Nothing},
}

// Of returns the rule of an RPC by its full name, such as "/tallyman.v1.JobService/GetJob". What has none nobody may call.
func Of(method string) Rule { return rules[method] }

// Methods returns the full names of the RPCs that have rules, in order.
func Methods() []string { return slices.Sorted(maps.Keys(rules)) }
