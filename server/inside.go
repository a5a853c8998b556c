package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/api"
)

// callerKey is the metadata in which connections inside this process say on whose behalf they call. From anywhere else it
// means nothing.
const callerKey = "tallyman-caller-bin"

// inside marks connections that were made inside this process.
type inside struct{ credentials.CommonAuthInfo }

// AuthType implements credentials.AuthInfo.
func (inside) AuthType() string { return "inside" }

// transport encrypts what comes from outside, as its base does, and leaves alone what comes from inside: a pipe in memory,
// which no network makes.
type transport struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (t transport) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.RemoteAddr().Network() == "bufconn" {
		return conn, inside{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
	}
	return t.TransportCredentials.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials.
func (t transport) Clone() credentials.TransportCredentials {
	return transport{t.TransportCredentials.Clone()}
}

// Dial returns a connection to the server inside this process, whose calls are the coordinator's own: they may do
// everything. The caller closes it.
func (s *Server) Dial() (*grpc.ClientConn, error) {
	return s.dial(ourselves)
}

func ourselves(context.Context) access.Identity {
	return access.Identity{Key: access.Coordinator, Name: access.Coordinator, Role: access.Admin}
}

// dial returns a connection whose calls are made on behalf of those that by returns.
func (s *Server) dial(by func(context.Context) access.Identity) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///tallyman", append(carrying(by),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.local.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}

// carrying has calls say on whose behalf they are made.
func carrying(by func(context.Context) access.Identity) []grpc.DialOption {
	carry := func(ctx context.Context) (context.Context, error) {
		caller, err := json.Marshal(by(ctx))
		if err != nil {
			return nil, fmt.Errorf("say who calls: %w", err)
		}
		return metadata.AppendToOutgoingContext(ctx, callerKey, string(caller)), nil
	}
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(
			ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
		) error {
			ctx, err := carry(ctx)
			if err != nil {
				return err
			}
			return invoke(ctx, method, request, reply, cc, options...)
		}),
		grpc.WithStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			ctx, err := carry(ctx)
			if err != nil {
				return nil, err
			}
			return open(ctx, desc, cc, method, options...)
		}),
	}
}

// authenticate says who makes a call.
func (s *Server) authenticate(ctx context.Context) (access.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return access.Identity{}, api.Unauthenticated("the call comes from nowhere")
	}
	given, _ := metadata.FromIncomingContext(ctx)
	if _, ok := p.AuthInfo.(inside); ok {
		return carried(given.Get(callerKey))
	}
	shown := access.Credential{Address: api.Host(ctx), Token: bearer(given.Get("authorization"))}
	if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.VerifiedChains) > 0 {
		shown.Certificate = t.State.VerifiedChains[0][0]
	}
	return s.admit(ctx, shown)
}

// bearer returns the token of a header, "" when there is none.
func bearer(values []string) string {
	if len(values) == 0 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// carried reads on whose behalf a call from inside is made.
func carried(values []string) (who access.Identity, err error) {
	if len(values) != 1 {
		return who, api.Unauthenticated("a call inside the coordinator does not say on whose behalf it is made")
	}
	if err := json.Unmarshal([]byte(values[0]), &who); err != nil {
		return access.Identity{}, fmt.Errorf("read on whose behalf a call is made: %w", err)
	}
	return who, nil
}
