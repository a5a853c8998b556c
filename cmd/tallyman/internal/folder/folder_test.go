package folder_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
)

func TestOneHolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	lock, err := folder.Acquire(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Publish("127.0.0.1:7650"); err != nil {
		t.Fatal(err)
	}
	// A long wait, which must not happen: a server stays.
	_, err = folder.Acquire(t.Context(), dir, time.Hour)
	held, ok := errors.AsType[*folder.HeldError](err)
	if !ok {
		t.Fatalf("error %v, want a *HeldError", err)
	}
	if diff := cmp.Diff(folder.Holder{PID: os.Getpid(), Address: "127.0.0.1:7650"}, held.Holder); diff != "" {
		t.Errorf("holder (-want +got):\n%s", diff)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := folder.Acquire(t.Context(), dir, 0)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestWaitsForShortUse has the lock released while somebody waits for it.
func TestWaitsForShortUse(t *testing.T) {
	dir := t.TempDir()
	first, err := folder.Acquire(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		lock *folder.Lock
		err  error
	}
	second := make(chan result, 1)
	go func() {
		lock, err := folder.Acquire(context.WithoutCancel(t.Context()), dir, time.Minute)
		second <- result{lock, err}
	}()
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	got := <-second
	if got.err != nil {
		t.Fatal(got.err)
	}
	if err := got.lock.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestWaitIsBounded(t *testing.T) {
	dir := t.TempDir()
	lock, err := folder.Acquire(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	}()
	_, err = folder.Acquire(t.Context(), dir, 10*time.Millisecond)
	held, ok := errors.AsType[*folder.HeldError](err)
	if !ok || held.Holder.PID != os.Getpid() {
		t.Errorf("error %v, want a *HeldError that names this process", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	leave := errors.New("no time")
	cancel(leave)
	if _, err := folder.Acquire(ctx, dir, time.Hour); !errors.Is(err, leave) {
		t.Errorf("error %v, want the context's cause", err)
	}
}

// TestHolderIsForgotten takes over from a process that died without a word.
func TestHolderIsForgotten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "server.json"), []byte(`{"pid":1,"address":"10.0.0.1:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := folder.Acquire(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = folder.Acquire(t.Context(), dir, 0)
	if held, ok := errors.AsType[*folder.HeldError](err); !ok || held.Holder.Address != "" {
		t.Errorf("error %v, want a holder without address", err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
}
