package coordinators_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/coordinators"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// most bounds what a test waits for.
const most = 30 * time.Second

// serve starts what stands for a coordinator and returns its address, and what ends it as a kill does.
func serve(t *testing.T, address string) (string, func()) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var ended atomic.Bool
	end := func() {
		if ended.Swap(true) {
			return
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	t.Cleanup(end)
	return listener.Addr().String(), end
}

// silent is a process that is frozen: the system makes its connections, and nothing ever comes.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func open(t *testing.T, addresses ...string) *coordinators.Conn {
	t.Helper()
	c, err := coordinators.Open(strings.Join(addresses, ","))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// call does a call and returns who answered, and how long that took.
func call(t *testing.T, c *coordinators.Conn) (string, time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	var who peer.Peer
	began := time.Now()
	_, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&who))
	if err != nil {
		return "", time.Since(began), err
	}
	return who.Addr.String(), time.Since(began), nil
}

func TestSplit(t *testing.T) {
	for list, want := range map[string][]string{
		"127.0.0.1:7650":                 {"127.0.0.1:7650"},
		" a:1, b:2 ,[::1]:3,a:1":         {"a:1", "b:2", "[::1]:3"},
		"unix:/run/tallyman.sock,a:1":    {"unix:/run/tallyman.sock", "a:1"},
		"dns:///coordinators.local:7650": {"dns:///coordinators.local:7650"},
		"":                               nil,
		"a:1,,b:2":                       nil,
		"a":                              nil,
		"a:":                             nil,
		"http://a:1":                     nil,
	} {
		got, err := coordinators.Split(list)
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("%q: error %v, addresses (-want +got):\n%s", list, err, diff)
		}
	}
}

func TestManyCallersSpread(t *testing.T) {
	var addresses []string
	for range 3 {
		address, _ := serve(t, "127.0.0.1:0")
		addresses = append(addresses, address)
	}
	const callers = 60
	answers := map[string]int{}
	for range callers {
		c := open(t, addresses...)
		who, _, err := call(t, c)
		if err != nil {
			t.Fatal(err)
		}
		answers[who]++
		if again, _, err := call(t, c); err != nil || again != who {
			t.Errorf("the second call was answered by %s, %v; the first by %s", again, err, who)
		}
	}
	for _, address := range addresses {
		// Less than 4 of 60 has a chance of one in ten millions.
		if answers[address] < 4 {
			t.Errorf("%d of %d callers chose %s, all of them: %v", answers[address], callers, address, answers)
		}
	}
}

// TestDeadAddressesDelayNobody calls past addresses that refuse, and past one that never answers, each first in many of
// the orders that are drawn.
func TestDeadAddressesDelayNobody(t *testing.T) {
	address, _ := serve(t, "127.0.0.1:0")
	for range 20 {
		who, took, err := call(t, open(t, refusing(t), silent(t), address, refusing(t)))
		if err != nil || who != address {
			t.Fatalf("answered by %q: %v", who, err)
		}
		if took > 2*time.Second {
			t.Errorf("the first call took %v", took)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	_, took, err := call(t, open(t, refusing(t), refusing(t)))
	if status.Code(err) != codes.Unavailable || took > 2*time.Second {
		t.Errorf("after %v: %v, want UNAVAILABLE at once", took, err)
	}
	_, took, err = call(t, open(t, silent(t)))
	if status.Code(err) != codes.Unavailable || took > 10*time.Second {
		t.Errorf("after %v: %v, want UNAVAILABLE after the time for a connection", took, err)
	}
}

func TestMovesOnWhenItsCoordinatorDies(t *testing.T) {
	ends := map[string]func(){}
	first, end := serve(t, "127.0.0.1:0")
	ends[first] = end
	second, end := serve(t, "127.0.0.1:0")
	ends[second] = end
	c := open(t, first, second)
	was, _, err := call(t, c)
	if err != nil {
		t.Fatal(err)
	}
	ends[was]()
	began := time.Now()
	for {
		now, _, err := call(t, c)
		if err == nil {
			if now == was {
				t.Error("the dead answers")
			}
			break
		}
		if time.Since(began) > most {
			t.Fatalf("nobody answers: %v", err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("moving on took %v", took)
	}
	// When it is back and the other one dies, the way leads back.
	serve(t, was)
	ends[first]()
	ends[second]()
	for began := time.Now(); ; {
		if now, _, err := call(t, c); err == nil {
			if now != was {
				t.Errorf("answered by %s, want %s", now, was)
			}
			break
		}
		if time.Since(began) > most {
			t.Fatal("the one that is back is not found")
		}
	}
}

// TestRenew has a call wait for ever at one coordinator, which is given up for another.
func TestRenew(t *testing.T) {
	address, _ := serve(t, "127.0.0.1:0")
	c := open(t, address)
	watch, err := grpc_health_v1.NewHealthClient(c).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	c.Renew()
	if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("the stream of before ended with %v", err)
	}
	if _, _, err := call(t, c); err != nil {
		t.Errorf("a call after it: %v", err)
	}
	closing, err := coordinators.Open(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := closing.Close(); err != nil {
		t.Error(err)
	}
	closing.Renew()
	if _, _, err := call(t, closing); status.Code(err) != codes.Canceled {
		t.Errorf("a call after the end: %v", err)
	}
	if err := closing.Close(); err == nil {
		t.Error("closed twice")
	}
}

// TestNames resolves a name with several addresses beside one that is not found and one that takes its time.
func TestNames(t *testing.T) {
	several, slow, broken := manual.NewBuilderWithScheme("several"), manual.NewBuilderWithScheme("slow"),
		manual.NewBuilderWithScheme("broken")
	for _, r := range []*manual.Resolver{several, slow, broken} {
		resolver.Register(r)
	}
	var addresses []resolver.Address
	for range 2 {
		address, _ := serve(t, "127.0.0.1:0")
		addresses = append(addresses, resolver.Address{Addr: address})
	}
	third, _ := serve(t, "127.0.0.1:0")
	several.InitialState(resolver.State{Addresses: addresses})
	broken.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) {
		cc.ReportError(errors.New("no such name"))
	}
	answers := map[string]int{}
	for range 40 {
		who, took, err := call(t, open(t, "several:///x", third, "broken:///x"))
		if err != nil {
			t.Fatal(err)
		}
		if took > 900*time.Millisecond {
			t.Errorf("a name that is not found delayed the call by %v", took)
		}
		answers[who]++
	}
	if len(answers) != 3 {
		t.Errorf("answered by %v, want both addresses of the name and the third", answers)
	}
	if who, took, err := call(t, open(t, "slow:///x", third)); err != nil || who != third || took > 5*time.Second {
		t.Errorf("beside a slow name: answered by %q after %v: %v", who, took, err)
	}
	_, took, err := call(t, open(t, "broken:///x"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no such name") || took > 2*time.Second {
		t.Errorf("after %v: %v, want at once that there is no such name", took, err)
	}
}
