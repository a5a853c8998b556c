package api

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func soon() error { return status.Error(codes.Unimplemented, "not yet") }

func (s *jobService) ExportItems(*pb.ExportItemsRequest, grpc.ServerStreamingServer[pb.ExportItemsResponse]) error {
	return soon()
}
