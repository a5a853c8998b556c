package rest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tallyman-dev/tallyman/client"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/dashboard"
	gateway "github.com/tallyman-dev/tallyman/server/rest/gateway"
)

// jsonOptions are those of the command line's output: the field names of the protocol, and every field there, so that
// scripts can rely on it. 64-bit numbers are strings, so that nobody rounds them.
var jsonOptions = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// Config says what a handler serves.
type Config struct {
	// Conn leads to the coordinator. It is used as it is and not closed.
	Conn grpc.ClientConnInterface
	// IdleTimeout is how long a body that is uploaded, or a reader of an answer, may stand still before the request is given
	// up. Required.
	IdleTimeout time.Duration
	// Admit says who makes a request; nil lets everybody in.
	Admit access.Admit
	// Asks says that who makes a request must say who he is; a browser is sent to the page that asks for it.
	Asks bool
	// More are routes of others, which are served beside those of the API.
	More []Route
	// Local refuses requests to other names than those of this host: nobody else can reach it but a page in a browser here,
	// whose own name was made to lead here.
	Local bool
}

// handler answers requests. It is safe for concurrent use.
type handler struct {
	cfg    Config
	drain  context.Context // of uploads
	client *client.Client
	jobs   pb.JobServiceClient
	health grpc_health_v1.HealthClient
}

// Handler serves everything by HTTP. It is safe for concurrent use.
type Handler struct {
	http.Handler
	routes []Route
}

// Routes returns all that is served, and by which rules.
func (h *Handler) Routes() []Route { return slices.Clone(h.routes) }

// New returns a handler of the dashboard, of everything below /v1, of the description of the API, and of the probes /healthz
// and /readyz.
// Requests that a browser makes for a page of another origin are refused, unless they only read. When drain ends uploads are
// cut, which would go on for as long as their clients send; watches end with the coordinator's own streams.
func New(drain context.Context, cfg Config) (*Handler, error) {
	if cfg.Admit == nil {
		cfg.Admit = access.Anybody
	}
	c, err := client.New(client.Config{Conn: cfg.Conn})
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	h := &handler{
		cfg: cfg, drain: drain, client: c, jobs: pb.NewJobServiceClient(cfg.Conn), health: grpc_health_v1.NewHealthClient(cfg.Conn),
	}
	calls := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &oneLine{runtime.JSONPb{MarshalOptions: jsonOptions}}),
		runtime.SetQueryParameterParser(new(queries)),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }), // nothing of gRPC's is of use
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
			writeError(w, err)
		}),
	)
	ctx := context.Background() // of no connection: Conn is the caller's
	err = errors.Join(
		gateway.RegisterJobServiceHandlerClient(ctx, calls, h.jobs),
		gateway.RegisterAdminServiceHandlerClient(ctx, calls, pb.NewAdminServiceClient(cfg.Conn)),
	)
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	description, err := describe()
	if err != nil {
		return nil, err
	}
	routes := slices.Concat([]Route{
		// Calls are admitted here and looked at by their own rules where they are made.
		{"/v1/", access.Known, calls},
		{"GET /v1/whoami", access.Known, http.HandlerFunc(h.whoami)},
		{"POST /v1/uploads", rpc(pb.JobService_SubmitUpload_FullMethodName), http.HandlerFunc(h.upload)},
		{"GET /v1/jobs:watch", rpc(pb.JobService_WatchJobs_FullMethodName), http.HandlerFunc(h.watchJobs)},
		{"GET /v1/jobs/{job_id}/watch", rpc(pb.JobService_WatchJob_FullMethodName), http.HandlerFunc(h.watch)},
		{"GET /v1/jobs/{job_id}/batches:watch", rpc(pb.JobService_WatchBatches_FullMethodName), http.HandlerFunc(h.watchBatches)},
		{"GET /v1/jobs/{job_id}/items", rpc(pb.JobService_ExportItems_FullMethodName), http.HandlerFunc(h.items)},
		{"GET /v1/jobs/{job_id}/results", rpc(pb.JobService_ExportResults_FullMethodName), http.HandlerFunc(h.results)},
		{"GET /login", access.Open, http.HandlerFunc(h.login)},
		{"POST /login", access.Open, http.HandlerFunc(h.login)},
		{"POST /logout", access.Open, http.HandlerFunc(h.logout)},
		{"GET /healthz", access.Open, http.HandlerFunc(alive)},
		{"GET /readyz", access.Open, http.HandlerFunc(h.ready)},
		{"GET /openapi.json", access.Open, http.HandlerFunc(description.serveJSON)},
		{"GET /api", access.Open, http.HandlerFunc(description.servePage)},
		{"GET /api.css", access.Open, http.HandlerFunc(description.serveStyle)},
	}, cfg.More)
	err = dashboard.Handle(func(pattern string, page bool, served http.HandlerFunc) {
		rule := access.Open // its files are the same for all
		if page {
			rule = access.Known // who is to say so first learns where
		}
		routes = append(routes, Route{pattern, rule, served})
	})
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.Pattern, h.admitted(r))
	}
	mux.HandleFunc("/", notFound)
	served := http.NewCrossOriginProtection().Handler(mux)
	if cfg.Local {
		served = localOnly(served)
	}
	return &Handler{guarded(served), routes}, nil
}

// localOnly serves requests to this host by its own names and addresses.
func localOnly(served http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			writeJSON(w, http.StatusMisdirectedRequest, problem(status.Errorf(codes.PermissionDenied,
				"this is served to this host only, by the name localhost or an address such as 127.0.0.1, not %q", host)))
			return
		}
		served.ServeHTTP(w, r)
	})
}

// alive says that the process answers.
func alive(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") }

// ready says whether the coordinator can serve, which it cannot without its database.
func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	answer, err := h.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	switch {
	case err != nil:
		writeText(w, http.StatusServiceUnavailable, status.Convert(err).Message()+"\n")
	case answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		writeText(w, http.StatusServiceUnavailable, "the coordinator does not serve: its database is away or it is stopping\n")
	default:
		writeText(w, http.StatusOK, "ok\n")
	}
}

const readyTimeout = 5 * time.Second

func notFound(w http.ResponseWriter, r *http.Request) {
	writeError(w, status.Errorf(codes.NotFound, "there is no %s %s here; see /api for what there is", r.Method, r.URL.Path))
}
