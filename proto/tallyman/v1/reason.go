// Package tallymanv1 is the API: messages and services generated from the .proto files beside it, the checks that single
// messages must pass, and the reasons of errors.
package tallymanv1

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo in every error status of a coordinator.
const ErrorDomain = "tallyman"

// errorPrefix is what the names of reasons have in the enum and lack in an ErrorInfo.
const errorPrefix = "ERROR_REASON_"

// Info returns r as a status carries it.
func (r ErrorReason) Info(metadata map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{
		Reason: strings.TrimPrefix(r.String(), errorPrefix), Domain: ErrorDomain, Metadata: metadata,
	}
}

// MetadataClusterID is the key under which an error says which database does not know what was asked for: that of
// RegisterWorkerResponse.cluster_id.
const MetadataClusterID = "cluster_id"

// InfoOf returns what a coordinator said about the status in err's tree, nil when it said nothing.
func InfoOf(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if d, ok := detail.(*errdetails.ErrorInfo); ok && d.GetDomain() == ErrorDomain {
			return d
		}
	}
	return nil
}

// ReasonOf returns the reason that a coordinator gave with the status in err's tree, unspecified when it gave none, as
// when it was not reached, or one that this program does not know.
func ReasonOf(err error) ErrorReason {
	return ErrorReason(ErrorReason_value[errorPrefix+InfoOf(err).GetReason()])
}
