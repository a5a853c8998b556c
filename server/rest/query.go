package rest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// queries fills in messages from queries as the gateway does, but refuses what it would pass over in silence: the names of
// fields that a message does not have.
type queries struct{ runtime.DefaultQueryParser }

// Parse implements runtime.QueryParameterParser.
func (q *queries) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	fields := m.ProtoReflect().Descriptor().Fields()
	for name := range values {
		first, _, _ := strings.Cut(name, ".")
		first, _, _ = strings.Cut(first, "[")
		if fields.ByName(protoreflect.Name(first)) == nil && fields.ByJSONName(first) == nil {
			return fmt.Errorf("there is no %q here; there are: %s", name, names(fields))
		}
	}
	return q.DefaultQueryParser.Parse(m, values, filter)
}

func names(fields protoreflect.FieldDescriptors) string {
	list := make([]string, fields.Len())
	for i := range list {
		list[i] = string(fields.Get(i).Name())
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// fill fills in a message from names and values. The entries of its maps may also be written with a point, such as
// "labels.who": brackets mean something else to shells and to curl.
func fill(m proto.Message, values url.Values) error {
	fields := m.ProtoReflect().Descriptor().Fields()
	dotted := make(url.Values, len(values))
	for name, list := range values {
		if first, key, ok := strings.Cut(name, "."); ok {
			if f := fields.ByName(protoreflect.Name(first)); f != nil && f.IsMap() {
				name = first + "[" + key + "]"
			}
		}
		dotted[name] = append(dotted[name], list...)
	}
	if err := new(queries).Parse(m, dotted, utilities.NewDoubleArray(nil)); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}
