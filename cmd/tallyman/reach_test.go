package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/sample"
	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/ingest"
)

// unused is an address where nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// TestWorkWaitsForACoordinator starts a worker before any of its coordinators.
func TestWorkWaitsForACoordinator(t *testing.T) {
	t.Parallel()
	first, second := unused(t), unused(t)
	store := "sqlite:" + filepath.Join(t.TempDir(), "annotations.db")
	working := start(t, strings.NewReader(""), "work", "--server", first+","+second, "--store", store)
	working.await(&working.stderr, "not reached.* address="+first+","+second)
	server := start(t, strings.NewReader(""), "serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", second)
	server.await(&server.stdout, "tallyman serves")
	working.await(&working.stderr, "worker registered")
	if code := working.stop(); code != exitOK {
		t.Errorf("work ended with %d\n%s", code, working.stderr.String())
	}
}

// TestSeveralServers names a server among others that are gone.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, "--workers", "1")
	path, _ := collection(t, sample.Config{Documents: 20})
	servers := strings.Join([]string{unused(t), address, unused(t)}, ",")
	r := must(t, exitOK, "submit", path, "--server", servers, "--watch")
	if !strings.Contains(r.stdout, "--server "+servers) {
		t.Errorf("the commands that are named next do not name the servers:\n%s", r.stdout)
	}
	must(t, exitOK, "jobs", "1", "--server", servers)
	gone := unused(t) + "," + unused(t)
	if r := must(t, exitUnreachable, "jobs", "--server", gone); !strings.Contains(r.stderr, gone) {
		t.Errorf("the error does not say where nobody answers: %s", r.stderr)
	}
	for _, wrong := range []string{"localhost", address + ",", "localhost:"} {
		if r := must(t, exitUsage, "jobs", "--server", wrong); !strings.Contains(r.stderr, "address") {
			t.Errorf("--server %s: %s", wrong, r.stderr)
		}
		if r := must(t, exitUsage, "work", "--server", wrong, "--store", "sqlite:"+filepath.Join(t.TempDir(), "x")); !strings.Contains(r.stderr, "address") {
			t.Errorf("work --server %s: %s", wrong, r.stderr)
		}
	}
}

// TestLimitsAreFlags has a limit's error name the flag that raises it.
func TestLimitsAreFlags(t *testing.T) {
	t.Parallel()
	flags := (&program{}).serveVerb().Flags()
	for _, setting := range []string{
		ingest.SettingMaxItem, ingest.SettingMaxBytes, ingest.SettingMaxRatio, ingest.SettingMaxDepth, ingest.SettingMaxWindow,
		ingest.SettingMaxArchives, ingest.SettingMaxEntries, ingest.SettingMaxDirectory, ingest.SettingMaxSpool,
		api.SettingMaxOpenUploads, api.SettingRateLimit, payload.LimitSetting,
	} {
		if flags.Lookup(setting) == nil {
			t.Errorf("the limit %s is no flag of serve", setting)
		}
	}
	path, _ := collection(t, sample.Config{Documents: 3})
	for _, verb := range []string{"run", "check"} {
		for _, limit := range []string{ingest.SettingMaxItem, ingest.SettingMaxBytes} {
			data := filepath.Join(t.TempDir(), "data")
			r := tallyman(t, verb, path, "--data", data, "--"+limit, "50")
			if r.code == exitOK || !strings.Contains(r.stdout+r.stderr, limit) {
				t.Errorf("%s --%s 50: exit code %d\n%s%s", verb, limit, r.code, r.stdout, r.stderr)
			}
			must(t, exitUsage, verb, path, "--data", data, "--"+limit, "-1")
		}
	}
	for _, limit := range []string{"max-running", runningPerProject} {
		data := filepath.Join(t.TempDir(), "data")
		if r := must(t, exitUsage, "run", path, "--data", data, "--"+limit, "-1"); !strings.Contains(r.stderr, "--"+limit) {
			t.Errorf("run --%s -1: %s", limit, r.stderr)
		}
		must(t, exitOK, "run", path, "--data", data, "--"+limit, "1")
	}
	if r := must(t, exitUsage, "serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--"+runningPerProject, "-1"); !strings.Contains(r.stderr, runningPerProject) {
		t.Errorf("serve --"+runningPerProject+" -1: %s", r.stderr)
	}
}
