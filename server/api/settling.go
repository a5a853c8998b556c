package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (s *workerService) SettleBatches(ctx context.Context, r *pb.SettleBatchesRequest) (*pb.SettleBatchesResponse, error) {
	settlements, err := fromSettlements(r)
	if err != nil {
		return nil, err
	}
	if len(settlements) > 0 && r.GetClaim() != nil {
		return s.settleAndClaim(ctx, r, settlements)
	}
	answers, err := s.cfg.Dispatcher.Settle(ctx, settlements)
	if err != nil {
		return nil, err
	}
	return &pb.SettleBatchesResponse{Answers: settleAnswers(settlements, answers)}, nil
}

// settleAndClaim settles, whatever becomes of the claim.
func (s *workerService) settleAndClaim(
	ctx context.Context, r *pb.SettleBatchesRequest, settlements []store.Settlement,
) (*pb.SettleBatchesResponse, error) {
	began := time.Now()
	kinds, err := s.kindsOf(ctx, r.GetSessionId())
	if err != nil || s.drain.Err() != nil {
		answers, err := s.cfg.Dispatcher.Settle(ctx, settlements)
		if err != nil {
			return nil, err
		}
		return &pb.SettleBatchesResponse{Answers: settleAnswers(settlements, answers)}, nil
	}
	request := store.ClaimRequest{
		SessionID: r.GetSessionId(), RequestID: r.GetClaim().GetRequestId(), Max: int(r.GetClaim().GetMaxBatches()),
	}
	answers, grants, err := s.cfg.Dispatcher.SettleAndClaim(ctx, settlements, request, kinds)
	if err != nil {
		return nil, err
	}
	granted := time.Now()
	resp := &pb.SettleBatchesResponse{Answers: settleAnswers(settlements, answers), Waited: durationpb.New(granted.Sub(began))}
	if resp.Grants, err = s.grants(ctx, grants); err != nil && ctx.Err() == nil {
		s.cfg.Logger.WarnContext(ctx, "give back what a settlement claimed", "session_id", r.GetSessionId(), "error", err)
	}
	return resp, nil
}

func fromSettlements(r *pb.SettleBatchesRequest) ([]store.Settlement, error) {
	settlements := make([]store.Settlement, len(r.GetSettlements()))
	for i, x := range r.GetSettlements() {
		results, err := fromResults(x.GetResults())
		if err != nil {
			return nil, err
		}
		settlements[i] = store.Settlement{
			Lease: job.Lease{BatchID: x.GetBatchId(), Attempt: x.GetAttempt(), SessionID: r.GetSessionId()},
			End: job.End{
				Kind: endsByProto[x.GetEnd()], Retryable: x.GetRetryable(), Message: x.GetMessage(),
				From: x.GetFromItem(), Outcomes: fromRuns(x.GetOutcomes()), Crash: fromCrash(x.GetCrash()),
			},
			Findings: fromFindings(x.GetBatchId(), x.GetFindings()),
			Results:  results,
		}
	}
	return settlements, nil
}

func settleAnswers(settlements []store.Settlement, answers []store.SettleAnswer) []*pb.SettleAnswer {
	list := make([]*pb.SettleAnswer, 0, len(answers))
	for i, a := range answers {
		out := &pb.SettleAnswer{BatchId: settlements[i].BatchID, Attempt: settlements[i].Attempt}
		switch {
		case a.Lost:
			out.Status = pb.SettleStatus_SETTLE_STATUS_LEASE_LOST
		case a.Err != nil:
			out.Status = pb.SettleStatus_SETTLE_STATUS_OUTCOMES_INCOMPLETE
		default:
			out.Status = pb.SettleStatus_SETTLE_STATUS_SETTLED
			out.BatchState = batchState(a.State)
		}
		list = append(list, out)
	}
	return list
}
