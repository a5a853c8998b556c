//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const (
	// sharedData holds real collections, which are not part of the repository.
	sharedData = "../../shared/data"

	buildTimeout = 5 * time.Minute
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == handleArgument {
		if err := handleItems(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if what := os.Getenv(relayVariable); what != "" {
		fmt.Fprintln(os.Stderr, relay(context.Background(), what))
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(scratch()); err != nil {
		fmt.Fprintln(os.Stderr, "remove what was built:", err)
	}
	os.Exit(code)
}

// scratch is the folder of what the tests of this process share.
var scratch = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "tallyman-e2e-")
	if err != nil {
		panic(err) // a machine without room for a folder runs no tests
	}
	return dir
})

// built builds the program, with the race detector when the tests are built so: then it watches the real thing.
var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch(), "tallyman")
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	args := []string{"build", "-buildvcs=false", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.CommandContext(ctx, "go", append(args, "../cmd/tallyman")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// binary returns the path of the program.
func binary(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shared returns the path of a file of the shared data, and skips the test where there is none.
func shared(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(sharedData, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	switch _, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		t.Skipf("SKIPPED: the real collection %s is not there, so that nothing is proved about it", path)
	case err != nil:
		t.Fatal(err)
	}
	return path
}
