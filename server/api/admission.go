package api

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
)

// admit returns what finds out who makes a call and whether the rule of its method permits that. What it is about is
// looked at later, by confine.
func admit(authenticate Authenticate) func(ctx context.Context) (context.Context, error) {
	return func(ctx context.Context) (context.Context, error) {
		method, _ := grpc.Method(ctx)
		rule := access.Of(method)
		who, err := authenticate(ctx)
		if err != nil {
			if !rule.Open {
				return nil, err
			}
			who = access.Identity{Name: Host(ctx)}
		}
		if !rule.Permits(who) {
			return nil, Denied(who, rule, method[strings.LastIndexByte(method, '/')+1:])
		}
		return access.With(ctx, who), nil
	}
}

// Unauthenticated returns the error of a call of somebody unknown; the text says what is wrong.
func Unauthenticated(format string, args ...any) error {
	return fail(codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_UNAUTHENTICATED, format, args...)
}

// Denied returns the error of a call that a rule does not permit to an identity.
func Denied(who access.Identity, rule access.Rule, call string) error {
	why := "nobody may"
	switch {
	case slices.Contains(rule.Roles, who.Role):
		why = "it is confined to projects, and this concerns all of them"
	case len(rule.Roles) > 0:
		roles := make([]string, len(rule.Roles))
		for i, r := range rule.Roles {
			roles[i] = string(r)
		}
		why = "its role is " + string(who.Role) + ", and this is for " + strings.Join(roles, ", ")
	}
	return fail(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_PERMISSION_DENIED, "%s may not call %s: %s", who.Name, call, why)
}

// Refuse returns an error as the status that a client gets, for those who admit calls elsewhere.
func Refuse(ctx context.Context, err error) error {
	return rewrite(ctx, slog.New(slog.DiscardHandler), "", err)
}

// errGone ends calls whose caller is known to be no good any more.
var errGone = Unauthenticated("the token or certificate of this call has expired or was revoked meanwhile")

// lasting returns a context that ends, with cause errGone, when who makes a call is no good any more.
func lasting(ctx context.Context) (context.Context, func()) {
	who := access.By(ctx)
	if who.While == nil && who.Until.IsZero() {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() bool { return true }
	if who.While != nil {
		stop = context.AfterFunc(who.While, func() { cancel(errGone) })
	}
	done := func() {}
	if !who.Until.IsZero() {
		ctx, done = context.WithDeadlineCause(ctx, who.Until, errGone)
	}
	return ctx, func() { stop(); done(); cancel(nil) }
}

// outlasted returns errGone in the place of an error that came of it.
func outlasted(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errGone) {
		return errGone
	}
	return err
}

func lastingUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, done := lasting(ctx)
	defer done()
	response, err := handler(ctx, request)
	return response, outlasted(ctx, err)
}

func lastingStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, done := lasting(stream.Context())
	defer done()
	return outlasted(ctx, handler(srv, &contextStream{stream, ctx}))
}
