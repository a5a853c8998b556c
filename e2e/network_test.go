//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// network is a switch with hosts on it, each in a network namespace of its own with its own address. Without root it lies
// in a user namespace. It goes with the test.
type network struct {
	t     testing.TB
	root  bool
	hub   *namespace
	hosts int
}

// namespace is a network namespace, which a process that does nothing keeps.
type namespace struct {
	net *network
	pid int
}

// host is one with a cable to the switch.
type host struct {
	*namespace
	port    string // of the switch
	address string
}

// newNetwork makes a switch without hosts. It skips the test where that is not possible.
func newNetwork(t testing.TB) *network {
	t.Helper()
	for _, tool := range []string{"ip", "unshare", "nsenter", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: nothing is proved about networks that fail, since %s is missing (Debian's packages iproute2, util-linux)", tool)
		}
	}
	n := &network{t: t, root: os.Geteuid() == 0}
	args := []string{"unshare", "--net"}
	if !n.root {
		args = []string{"unshare", "--user", "--map-root-user", "--net"}
	}
	hub, err := n.hold(args)
	if err != nil {
		t.Skipf("SKIPPED: nothing is proved about networks that fail, since this process may have none of its own: %v", err)
	}
	n.hub = hub
	if out, err := n.hub.command("ip", "link", "add", "switch", "type", "bridge").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: nothing is proved about networks that fail, since the kernel makes no bridge: %v: %s", err, out)
	}
	n.hub.run("ip", "link", "set", "switch", "up")
	return n
}

// hold starts a process in the namespaces that a command makes for it. It ends when the test does, however that ends.
func (n *network) hold(args []string) (*namespace, error) {
	n.t.Helper()
	var said buffer
	holder := exec.Command(args[0], append(args[1:], "cat")...)
	holder.Stderr = &said
	alive, err := holder.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("hold namespace: %w", err)
	}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("hold namespace: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = holder.Wait() // what it said is what matters
	}()
	n.t.Cleanup(func() {
		_ = alive.Close() // which ends it
		<-ended
	})
	comm := fmt.Sprintf("/proc/%d/comm", holder.Process.Pid)
	held := within(endTimeout, func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		name, err := os.ReadFile(comm)
		return err == nil && string(name) == "cat\n"
	})
	select {
	case <-ended:
		return nil, fmt.Errorf("hold namespace: %s", strings.TrimSpace(said.String()))
	default:
	}
	if !held {
		return nil, errors.New("hold namespace: it does not come to be")
	}
	return &namespace{n, holder.Process.Pid}, nil
}

// entering is the beginning of a command line that runs the rest in the namespace, and has it end with the test.
func (s *namespace) entering() []string {
	args := []string{"nsenter", "--target", strconv.Itoa(s.pid), "--net"}
	if !s.net.root {
		args = append(args, "--user", "--preserve-credentials")
	}
	return append(args, "--", "setpriv", "--pdeathsig", "KILL", "--")
}

func (s *namespace) command(args ...string) *exec.Cmd {
	all := append(s.entering(), args...)
	return exec.Command(all[0], all[1:]...)
}

func (s *namespace) run(args ...string) {
	s.net.t.Helper()
	if out, err := s.command(args...).CombinedOutput(); err != nil {
		s.net.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// host adds a host.
func (n *network) host() *host {
	n.t.Helper()
	args := []string{"unshare", "--net"}
	if !n.root {
		args = append([]string{"nsenter", "--target", strconv.Itoa(n.hub.pid), "--user", "--preserve-credentials", "--"}, args...)
	}
	space, err := n.hold(args)
	if err != nil {
		n.t.Fatal(err)
	}
	n.hosts++
	h := &host{space, fmt.Sprintf("port%d", n.hosts), fmt.Sprintf("10.77.0.%d", n.hosts)}
	n.hub.run("ip", "link", "add", h.port, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.pid))
	h.run("ip", "link", "set", "lo", "up")
	h.run("ip", "address", "add", h.address+"/24", "dev", "eth0")
	h.run("ip", "link", "set", "eth0", "up")
	n.hub.run("ip", "link", "set", h.port, "up")
	h.connect()
	return h
}

// disconnect has the switch forget the host: what either side sends vanishes, and nobody is told.
func (h *host) disconnect() { h.net.hub.run("ip", "link", "set", h.port, "nomaster") }

func (h *host) connect() { h.net.hub.run("ip", "link", "set", h.port, "master", "switch") }

// unplug pulls the host's cable, which its kernel notices.
func (h *host) unplug() { h.net.hub.run("ip", "link", "set", h.port, "down") }

func (h *host) plug() { h.net.hub.run("ip", "link", "set", h.port, "up") }

// relayVariable makes a process of the tests nothing but a relay: from a Unix socket, which is in every network, to an
// address of the network that it runs in.
const relayVariable = "TALLYMAN_E2E_RELAY"

// relay starts a relay to an address on the host, and returns where it listens.
func (h *host) relay(address string) string {
	h.net.t.Helper()
	socket := filepath.Join(h.net.t.TempDir(), "relay")
	self, err := os.Executable()
	if err != nil {
		h.net.t.Fatal(err)
	}
	cmd := h.command(self)
	cmd.Env = append(environment(), relayVariable+"="+socket+" "+address)
	cmd.Stderr = h.net.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.net.t.Fatal(err)
	}
	h.net.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(h.net.t, startTimeout, "the relay to listen", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	return "unix://" + socket
}

// relay is what a process does whose environment says so.
func relay(ctx context.Context, what string) error {
	socket, target, _ := strings.Cut(what, " ")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	for {
		down, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		up, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
		if err != nil {
			_ = down.Close()
			continue
		}
		carry := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			_ = to.Close()
			_ = from.Close()
		}
		go carry(up, down)
		go carry(down, up)
	}
}
