package api

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/watch"
)

var jobStates = map[job.State]pb.JobState{
	job.Running:             pb.JobState_JOB_STATE_RUNNING,
	job.Paused:              pb.JobState_JOB_STATE_PAUSED,
	job.Cancelling:          pb.JobState_JOB_STATE_CANCELLING,
	job.Succeeded:           pb.JobState_JOB_STATE_SUCCEEDED,
	job.CompletedWithErrors: pb.JobState_JOB_STATE_COMPLETED_WITH_ERRORS,
	job.Failed:              pb.JobState_JOB_STATE_FAILED,
	job.Cancelled:           pb.JobState_JOB_STATE_CANCELLED,
}

var attemptEnds = map[job.EndKind]pb.AttemptEnd{
	job.EndCompleted: pb.AttemptEnd_ATTEMPT_END_COMPLETED,
	job.EndFailed:    pb.AttemptEnd_ATTEMPT_END_FAILED,
	job.EndReleased:  pb.AttemptEnd_ATTEMPT_END_RELEASED,
	job.EndCancelled: pb.AttemptEnd_ATTEMPT_END_CANCELLED,
	job.EndDied:      pb.AttemptEnd_ATTEMPT_END_DIED,
	job.EndLost:      pb.AttemptEnd_ATTEMPT_END_LOST,
}

// inverse turns a table around.
func inverse[K, V comparable](m map[K]V) map[V]K {
	out := make(map[V]K, len(m))
	for k, v := range m {
		out[v] = k
	}
	return out
}

var (
	statesByProto = inverse(jobStates)
	endsByProto   = inverse(attemptEnds)
)

// batchState: the protocol's numbers are the job's plus one, since 0 means unspecified there.
func batchState(s job.BatchState) pb.BatchState { return pb.BatchState(s) + 1 }

func fromBatchStates(states []pb.BatchState) []job.BatchState {
	var out []job.BatchState
	for _, s := range states {
		if s != pb.BatchState_BATCH_STATE_UNSPECIFIED {
			out = append(out, job.BatchState(s-1))
		}
	}
	return out
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func toJob(j *job.Job) *pb.Job {
	return &pb.Job{
		JobId: j.ID, UploadId: j.UploadID, Project: j.Project, Kind: j.Kind, Mode: j.Mode,
		Parameters: j.Parameters, Labels: j.Labels, Priority: j.Priority, FileName: j.FileName,
		Policy: toPolicy(j.Policy), State: jobStates[j.State], IngestDone: j.IngestDone, Reason: j.Reason,
		Revision: j.Revision, Progress: toProgress(j),
		SubmittedAt: timestamp(j.SubmittedAt), StartedAt: timestamp(j.StartedAt), EndedAt: timestamp(j.EndedAt),
		Run: j.Run, RetriedAt: timestamp(j.RetriedAt),
	}
}

func toSnapshot(s *watch.Snapshot) *pb.Job {
	out := toJob(&s.Job)
	out.Progress.ItemsPerSecond = s.Rate
	if s.ETA > 0 {
		out.Progress.Eta = durationpb.New(s.ETA)
	}
	out.LastCrashes = toAttempts(s.Crashes)
	return out
}

func toProgress(j *job.Job) *pb.Progress {
	p := &pb.Progress{
		ItemsTotal: j.ItemsTotal, ItemsEnded: j.ItemsEnded(), ItemsOpen: j.ItemsOpen(), ItemsInFlight: j.ItemsInFlight,
		Annotations: j.Annotations, BytesRead: j.BytesRead, BytesTotal: j.Size, Errors: j.Errors, Warnings: j.Warnings,
	}
	for _, o := range job.Outcomes() {
		if n := j.ItemOutcomes[o]; n != 0 {
			p.ItemsByOutcome = append(p.ItemsByOutcome, &pb.OutcomeCount{Outcome: pb.Outcome(o), Items: n})
		}
	}
	p.BatchesByState = toBatchCounts(j.Batches[:])
	return p
}

func toBatchCounts(counts []int64) []*pb.BatchStateCount {
	var out []*pb.BatchStateCount
	for s, n := range counts {
		if n != 0 {
			out = append(out, &pb.BatchStateCount{State: batchState(job.BatchState(s)), Batches: n})
		}
	}
	return out
}

func toPolicy(p job.Policy) *pb.Policy {
	return &pb.Policy{
		MaxAttempts: p.Attempts(), BatchWeight: p.BatchWeight, BatchItems: p.BatchItems, BatchBytes: p.BatchBytes,
		DefaultSourcedb: p.DefaultSourceDB, SourceidFromName: p.SourceIDFromName, MaxRunning: p.MaxRunning, StallTimeout: durationpb.New(p.Stall()),
		AttemptTimeout: durationpb.New(p.AttemptTimeout), MaxBadItems: p.MaxBadItems, MaxBadPercent: p.MaxBadPercent,
		Strict: p.Strict, MaxSplits: cmp.Or(p.MaxSplits, job.DefaultMaxSplits),
	}
}

func fromPolicy(p *pb.Policy) job.Policy {
	return job.Policy{
		MaxAttempts: p.GetMaxAttempts(), BatchWeight: p.GetBatchWeight(), BatchItems: p.GetBatchItems(),
		BatchBytes: p.GetBatchBytes(), DefaultSourceDB: p.GetDefaultSourcedb(), SourceIDFromName: p.GetSourceidFromName(), MaxRunning: p.GetMaxRunning(),
		StallTimeout: p.GetStallTimeout().AsDuration(), AttemptTimeout: p.GetAttemptTimeout().AsDuration(),
		MaxBadItems: p.GetMaxBadItems(), MaxBadPercent: p.GetMaxBadPercent(), Strict: p.GetStrict(), MaxSplits: p.GetMaxSplits(),
	}
}

func toRuns(runs []job.Run) []*pb.OutcomeRun {
	out := make([]*pb.OutcomeRun, len(runs))
	for i, r := range runs {
		out[i] = &pb.OutcomeRun{Count: r.Count, Outcome: pb.Outcome(r.Outcome)}
	}
	return out
}

// fromRuns joins neighbors, so that what is kept is as short as it can be.
func fromRuns(runs []*pb.OutcomeRun) []job.Run {
	var out []job.Run
	for _, r := range runs {
		if k := len(out) - 1; k >= 0 && out[k].Outcome == job.Outcome(r.GetOutcome()) {
			out[k].Count += r.GetCount()
			continue
		}
		out = append(out, job.Run{Count: r.GetCount(), Outcome: job.Outcome(r.GetOutcome())})
	}
	return out
}

func toBatch(b *store.BatchRow) *pb.Batch {
	out := &pb.Batch{
		BatchId: b.ID, JobId: b.JobID, Ordinal: b.Ordinal, FirstItem: b.FirstItem, ItemCount: b.ItemCount,
		DoneItems: b.DoneItems, Weight: b.Weight, State: batchState(b.State), Attempt: b.Attempt,
		Failures: b.Failures, Crashes: b.Crashes, Losses: b.Losses, Outcomes: toRuns(b.Outcomes), Error: b.Error,
		SessionId: b.SessionID, WorkerId: b.WorkerID, Documents: b.Documents, DocumentCount: int32(b.Total),
		ClaimedAt: timestamp(b.ClaimedAt), SettledAt: timestamp(b.SettledAt),
		LeaseExpiresAt: timestamp(b.LeaseExpiresAt), RootId: b.RootID, ParentId: b.ParentID, Solo: b.Solo,
	}
	if b.ItemCount == 1 && suspected(b) {
		out.SuspectItem = b.FirstItem // numbers of others are in the payload
	}
	if b.AvailableAt.After(time.Now()) {
		out.AvailableAt = timestamp(b.AvailableAt)
	}
	return out
}

// suspected reports whether one item of a batch is accused.
func suspected(b *store.BatchRow) bool {
	return b.Suspect > 0 && (!b.State.Ended() || b.State == job.BatchCrashed)
}

func toBatches(rows []store.BatchRow) []*pb.Batch {
	out := make([]*pb.Batch, len(rows))
	for i := range rows {
		out[i] = toBatch(&rows[i])
	}
	return out
}

func toAttempts(attempts []store.Attempt) []*pb.Attempt {
	out := make([]*pb.Attempt, len(attempts))
	for i, a := range attempts {
		out[i] = &pb.Attempt{
			BatchId: a.BatchID, Attempt: a.Attempt, SessionId: a.SessionID, WorkerId: a.WorkerID,
			End: attemptEnds[a.Kind], Message: a.Message, ClaimedAt: timestamp(a.ClaimedAt), EndedAt: timestamp(a.EndedAt),
			BatchState: batchState(a.State), Decision: a.Decision, Beats: a.Beats, Crash: toCrash(a.Crash),
		}
	}
	return out
}

func toCrash(c *job.Crash) *pb.Crash {
	if c == nil {
		return nil
	}
	return &pb.Crash{
		Suspect: c.Suspect, Signal: c.Signal, ExitCode: c.ExitCode, PeakMemoryBytes: c.PeakMemory, Stderr: c.Stderr,
		Fingerprint: c.Fingerprint,
	}
}

func fromCrash(c *pb.Crash) *job.Crash {
	if c == nil {
		return nil
	}
	return &job.Crash{
		Suspect: c.GetSuspect(), Signal: c.GetSignal(), ExitCode: c.GetExitCode(), PeakMemory: max(c.GetPeakMemoryBytes(), 0),
		Stderr: c.GetStderr(), Fingerprint: c.GetFingerprint(),
	}
}

func toFinding(f *store.Finding) *pb.Finding {
	return &pb.Finding{
		BatchId: f.BatchID, Item: f.Item, Severity: pb.Severity(f.Severity), Code: f.Code, File: f.File, Line: f.Line,
		Offset: f.Offset, Document: f.Document, Path: f.Path, Message: f.Message,
	}
}

func fromFindings(batch int64, findings []*pb.ItemFinding) []store.Finding {
	var out []store.Finding
	for _, x := range findings {
		f := x.GetFinding()
		out = append(out, store.Finding{
			BatchID: batch, Item: f.GetItem(), Severity: store.Severity(f.GetSeverity()),
			Code: strings.ToValidUTF8(f.GetCode(), ""), File: f.GetFile(), Line: f.GetLine(), Offset: f.GetOffset(),
			Document: f.GetDocument(), Path: f.GetPath(), Message: f.GetMessage(), Position: x.GetPosition(),
		})
	}
	return out
}

func toWorker(s *store.Session) *pb.Worker {
	return &pb.Worker{
		WorkerId: s.WorkerID, SessionId: s.ID, Host: s.Host, Pid: s.PID, Version: s.Version,
		Kinds: slices.Clone(s.Kinds), Slots: s.Slots, Running: s.Running, Completed: s.Completed, Crashed: s.Crashed,
		RegisteredAt: timestamp(s.RegisteredAt), BeatAt: timestamp(s.BeatAt), EndedAt: timestamp(s.EndedAt),
		EndReason: s.EndReason, DrainedAt: timestamp(s.DrainedAt), DrainReason: s.DrainReason,
		Trouble: s.Trouble,
	}
}
