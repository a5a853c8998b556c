package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// jsonLines is the type of bodies with a JSON value on each line.
const jsonLines = "application/x-ndjson"

// items sends the original bytes of items, each with an end of line: what can be uploaded again. Where only the beginning
// of an item was kept it is sent as it is.
func (h *handler) items(w http.ResponseWriter, r *http.Request) {
	request := &pb.ExportItemsRequest{}
	if err := choose(request, r); err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stream, err := h.jobs.ExportItems(ctx, request, grpc.MaxCallRecvMsgSize(maxItem))
	send(h, w, stream, err, func(m *pb.ExportItemsResponse) ([]byte, error) {
		var lines bytes.Buffer
		for _, it := range m.GetItems() {
			if len(it.GetData()) > 0 {
				lines.Write(it.GetData())
				lines.WriteByte('\n')
			}
		}
		return lines.Bytes(), nil
	})
}

// choose fills in a request from the path, which names the job, and the query.
func choose(request proto.Message, r *http.Request) error {
	values := r.URL.Query()
	values.Set("job_id", r.PathValue("job_id"))
	return fill(request, values)
}

// maxItem bounds a message with a single item, which may be as large as the coordinator's limit of an item's size.
const maxItem = 1<<31 - 1

// results sends what handlers made of items, one line each: the fields of the protocol, but the result as it was written.
func (h *handler) results(w http.ResponseWriter, r *http.Request) {
	request := &pb.ExportResultsRequest{}
	if err := choose(request, r); err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stream, err := h.jobs.ExportResults(ctx, request, grpc.MaxCallRecvMsgSize(maxItem))
	send(h, w, stream, err, func(m *pb.ExportResultsResponse) ([]byte, error) {
		var lines bytes.Buffer
		encoder := json.NewEncoder(&lines)
		encoder.SetEscapeHTML(false) // what a handler wrote is sent as it is
		for _, x := range m.GetResults() {
			err := encoder.Encode(resultLine{
				x.GetItem(), x.GetLastItem(), x.GetBatchId(), x.GetFile(), x.GetLine(), x.GetDocument(), x.GetValue(),
			})
			if err != nil {
				return nil, err
			}
		}
		return lines.Bytes(), nil
	})
}

// resultLine is one line of results.
type resultLine struct {
	Item     int64           `json:"item,string"`
	LastItem int64           `json:"last_item,string"`
	BatchID  int64           `json:"batch_id,string"`
	File     string          `json:"file"`
	Line     int64           `json:"line,string"`
	Document string          `json:"document"`
	Result   json.RawMessage `json:"result"`
}

// send sends what a stream brings. An error after the first piece cuts the connection, so that nobody takes what came for the
// whole.
func send[M any](
	h *handler, w http.ResponseWriter, stream grpc.ServerStreamingClient[M], err error, lines func(*M) ([]byte, error),
) {
	if err != nil {
		writeError(w, err)
		return
	}
	out := newOutput(w, h.cfg.IdleTimeout)
	for {
		m, err := stream.Recv()
		if err != nil && !ended(err) {
			if !out.wrote {
				writeError(w, err)
				return
			}
			panic(http.ErrAbortHandler)
		}
		if !out.wrote {
			w.Header().Set("Content-Type", jsonLines)
		}
		if err != nil {
			return
		}
		text, err := lines(m)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if out.write(text); out.flush() != nil {
			return // the reader has gone
		}
	}
}

// ended says whether a stream has ended in order.
func ended(err error) bool { return errors.Is(err, io.EOF) }
