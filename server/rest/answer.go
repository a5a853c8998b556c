package rest

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// statusClientGone is what servers write into their logs for a client that has gone.
const statusClientGone = 499

// httpStatus returns the status of a code as the gateway has it, but where HTTP knows better.
func httpStatus(code codes.Code) int {
	if code == codes.Canceled {
		return statusClientGone
	}
	return runtime.HTTPStatusFromCode(code)
}

// writeError answers with an error: a google.rpc.Status as JSON, whose details carry the reason.
func writeError(w http.ResponseWriter, err error) {
	writeJSON(w, httpStatus(status.Code(err)), problem(err))
}

// problem returns an error as JSON on one line.
func problem(err error) []byte {
	s := status.Convert(err)
	text, err := compact(s.Proto())
	if err != nil { // a detail of a type that this program does not know
		text, err = compact(status.New(s.Code(), s.Message()).Proto())
	}
	if err != nil {
		text = []byte(`{"code":13,"message":"the error cannot be written as JSON"}`)
	}
	return text
}

// writeJSON answers with JSON that is on one line.
func writeJSON(w http.ResponseWriter, code int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // who asked may have gone
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // who asked may have gone
}

// compact returns a message as JSON on one line, without its end.
func compact(m proto.Message) ([]byte, error) {
	text, err := jsonOptions.Marshal(m)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil { // protojson varies its white space on purpose
		return nil, err
	}
	return line.Bytes(), nil
}

// oneLine writes messages on one line, and reads them as its base does.
type oneLine struct{ runtime.JSONPb }

// Marshal implements runtime.Marshaler.
func (o *oneLine) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return o.JSONPb.Marshal(v)
	}
	text, err := compact(m)
	return append(text, '\n'), err
}
