package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/temporal"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	namespace = "bench"

	// shards is a usual number for small installations.
	shards = 4

	// startTimeout bounds the time until the server takes workflows.
	startTimeout = 3 * time.Minute
)

// site is a server on databases of its own, of loopback only.
type site struct {
	stores

	server temporal.Server
	client client.Client
}

func open(ctx context.Context, at stores) (_ *site, err error) {
	s := &site{stores: at}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := at.migrate(); err != nil {
		return nil, err
	}
	ports, err := freePorts(9)
	if err != nil {
		return nil, err
	}
	frontend := "127.0.0.1:" + strconv.Itoa(ports[0])
	c, err := s.config(frontend, ports)
	if err != nil {
		return nil, err
	}
	s.server, err = temporal.NewServer(temporal.WithConfig(c), temporal.ForServices(temporal.DefaultServices),
		temporal.WithLogger(log.NewNoopLogger()), temporal.WithDynamicConfigClient(unlimited()))
	if err != nil {
		return nil, fmt.Errorf("make the server: %w", err)
	}
	if err := s.server.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s, s.register(ctx, frontend)
}

func (s *site) config(frontend string, ports []int) (*config.Config, error) {
	first, err := reached(s.main)
	if err != nil {
		return nil, err
	}
	second, err := reached(s.visibility)
	if err != nil {
		return nil, err
	}
	c := &config.Config{
		Persistence: config.Persistence{
			DefaultStore: "default", VisibilityStore: "visibility", NumHistoryShards: shards,
			DataStores: map[string]config.DataStore{"default": {SQL: first}, "visibility": {SQL: second}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: "active", CurrentClusterName: "active",
			ClusterInformation: map[string]cluster.ClusterInformation{
				"active": {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            map[string]config.Service{},
		PublicClient:        config.PublicClient{HostPort: frontend},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: "disabled"},
			Visibility: config.VisibilityArchival{State: "disabled"},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: "disabled"},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
		}},
	}
	c.Global.Membership = config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: "127.0.0.1"}
	c.Global.Metrics = &metrics.Config{Prometheus: &metrics.PrometheusConfig{
		ListenAddress: "127.0.0.1:" + strconv.Itoa(ports[8]), HandlerPath: "/metrics",
	}}
	for i, name := range []string{"frontend", "history", "matching", "worker"} {
		c.Services[name] = config.Service{RPC: config.RPC{
			GRPCPort: ports[2*i], MembershipPort: ports[2*i+1], BindOnLocalHost: true,
		}}
	}
	return c, nil
}

// unlimited lifts the limits on requests, which are for servers that many share.
func unlimited() dynamicconfig.StaticClient {
	limits := dynamicconfig.StaticClient{}
	for _, key := range []dynamicconfig.Key{
		dynamicconfig.FrontendRPS.Key(), dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key(),
		dynamicconfig.FrontendPersistenceMaxQPS.Key(), dynamicconfig.HistoryPersistenceMaxQPS.Key(),
		dynamicconfig.MatchingPersistenceMaxQPS.Key(), dynamicconfig.HistoryRPS.Key(), dynamicconfig.MatchingRPS.Key(),
	} {
		limits[key] = 1_000_000
	}
	return limits
}

// register makes the namespace, and waits until it can be used.
func (s *site) register(ctx context.Context, frontend string) error {
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for {
		err := s.usable(ctx, frontend)
		if err == nil {
			return nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the namespace: %w", err)
		}
	}
}

func (s *site) usable(ctx context.Context, frontend string) (err error) {
	if s.client == nil {
		s.client, err = client.DialContext(ctx, client.Options{HostPort: frontend, Namespace: namespace, Logger: quiet{}})
		if err != nil {
			return err
		}
	}
	_, err = s.client.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if _, there := errors.AsType[*serviceerror.NamespaceAlreadyExists](err); err != nil && !there {
		return err
	}
	// The answer comes from the cache that workflows are started by.
	_, err = s.client.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
		Namespace: namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: queue},
	})
	return err
}

func (s *site) close() error {
	if s.client != nil {
		s.client.Close()
	}
	if s.server != nil {
		if err := s.server.Stop(); err != nil {
			return fmt.Errorf("stop the server: %w", err)
		}
	}
	return nil
}

// freePorts returns ports that nobody listens on now, none of them above 32,767: Temporal's tables on PostgreSQL have no
// room for others.
func freePorts(n int) ([]int, error) {
	var ports []int
	for try := 0; try < 1000 && len(ports) < n; try++ {
		port := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue // somebody has it
		}
		defer l.Close()
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, errors.New("too few ports are free")
	}
	return ports, nil
}

// quiet is a log of nothing.
type quiet struct{}

// Debug and the others implement the SDK's Logger.
func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
