package worker

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/internal/coordinators"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Config of a Worker. Handlers and one of Address and Conn are needed; zero values of the rest mean the defaults.
type Config struct {
	// Address is host:port of a coordinator, or those of several that share a database, separated by commas; a host may
	// be a name with several addresses. The worker holds on to one of them for as long as that answers, then goes to
	// another, with all its leases. It makes the connection and closes it.
	Address string
	Conn    grpc.ClientConnInterface // used as it is and not closed
	Dial    []grpc.DialOption        // further options for Address; they come after those of TLS and Token

	// TLS encrypts the way to Address; nil does not. Token returns the token that each call shows; nil shows none. It is not
	// sent to another host without encryption, unless TokenInClear says that this is meant. Both are for Address only.
	TLS          *tls.Config
	Token        func() (string, error)
	TokenInClear bool

	// Handlers are who handles batches, by kind. Each must be safe for concurrent use.
	Handlers map[string]Handler

	WorkerID string // names the installation; registering it anew ends its earlier process; default random
	Host     string // for people; default the host's name
	Version  string // of the program, for people
	Slots    int    // batches handled at a time; default the number of CPUs, at most 4096

	// ExitWhenIdle makes Run return nil when a claim that was made while nothing was held is answered with nothing.
	ExitWhenIdle bool

	ClaimWait    time.Duration // for which a claim waits for work; default 30 s, with ExitWhenIdle 5 s
	DrainTimeout time.Duration // for which handlers may go on when Run is told to stop; default 10 s
	StopTimeout  time.Duration // for handlers to return once their context has ended; default 5 s

	// ForgetInterval is how often handlers that are Forgetters are asked to forget jobs that have been deleted; negative:
	// never. The first time is soon after the start. Default 1 h.
	ForgetInterval time.Duration

	MaxPayloadBytes int64 // that a batch's payload may decompress to; default payload.DefaultLimit

	Meter  Meter        // default: none
	Logger *slog.Logger // default: none
}

// Validate reports the first field that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Address == "" && c.Conn == nil:
		return errors.New("no address and no connection of a coordinator")
	case c.Address != "" && c.Conn != nil:
		return errors.New("both an address and a connection of a coordinator; one is needed")
	case c.Address != "" && addressError(c.Address) != nil:
		return addressError(c.Address)
	case c.Address != "" && c.secureError() != nil:
		return c.secureError()
	case len(c.Handlers) == 0:
		return errors.New("no handler")
	case c.Slots < 0 || c.Slots > pb.MaxSlots:
		return fmt.Errorf("%d slots: must be at most %d", c.Slots, pb.MaxSlots)
	case c.ClaimWait < 0 || c.ClaimWait > maxClaimWait:
		return fmt.Errorf("claim wait %v: must be at most %v", c.ClaimWait, maxClaimWait)
	case c.ClaimWait > 0 && c.ClaimWait < minClaimWait:
		return fmt.Errorf("claim wait %v: must be at least %v", c.ClaimWait, minClaimWait)
	case c.DrainTimeout < 0:
		return fmt.Errorf("drain timeout %v: must not be negative", c.DrainTimeout)
	case c.StopTimeout < 0:
		return fmt.Errorf("stop timeout %v: must not be negative", c.StopTimeout)
	case c.MaxPayloadBytes < 0:
		return fmt.Errorf("max payload bytes %d: must not be negative", c.MaxPayloadBytes)
	}
	for kind, h := range c.Handlers {
		if h == nil {
			return fmt.Errorf("the handler of kind %q is nil", kind)
		}
	}
	// What the coordinator would refuse is refused here, where somebody reads it.
	request := c.withDefaults().registration()
	if err := request.Validate(); err != nil {
		return err
	}
	return nil
}

func (c Config) secureError() error {
	_, err := coordinators.Secure(c.Address, c.TLS, c.Token, c.TokenInClear)
	return err
}

func addressError(addresses string) error {
	_, err := coordinators.Split(addresses)
	return err
}

// A coordinator answers a claim a little before its deadline, and lets none wait for longer than a minute.
const (
	minClaimWait = 500 * time.Millisecond
	maxClaimWait = 55 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Host == "" {
		c.Host, _ = os.Hostname() // for people only; without one it stays empty
	}
	wait := 30 * time.Second
	if c.ExitWhenIdle {
		wait = 5 * time.Second
	}
	c.Slots = c.SlotsOrDefault()
	c.ClaimWait = cmp.Or(c.ClaimWait, wait)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.ForgetInterval = cmp.Or(c.ForgetInterval, time.Hour)
	c.StopTimeout = cmp.Or(c.StopTimeout, 5*time.Second)
	if c.Meter == nil {
		c.Meter = unmetered{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// SlotsOrDefault returns how many batches are handled at a time.
func (c Config) SlotsOrDefault() int { return cmp.Or(c.Slots, min(runtime.GOMAXPROCS(0), pb.MaxSlots)) }

func (c Config) registration() *pb.RegisterWorkerRequest {
	return &pb.RegisterWorkerRequest{
		WorkerId: c.WorkerID, Kinds: slices.Sorted(maps.Keys(c.Handlers)), Slots: int32(c.Slots),
		Host: c.Host, Pid: int32(os.Getpid()), Version: c.Version,
	}
}
