package postgres_test

import (
	"errors"
	"testing"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// A database that stops is unavailable, never another error, and is worked with again when it is back.
func TestRestartedDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.StartServer(t, pgtest.Config{})
	dsn := server.DSN("postgres")
	if err := postgres.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, dsn, 4)
	jobID, session := fill(t, s, 4)
	held := claim(t, s, jobID, session, "1", 2)
	for i, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		if err := server.Stop(mode); err != nil {
			t.Fatal(err)
		}
		calls := map[string]func() error{
			"Check": func() error { return s.Check(t.Context()) },
			"Beat": func() error {
				_, _, err := s.Beat(t.Context(), 0, []store.Beat{{Lease: held[0].Lease}})
				return err
			},
			"GetJob": func() error { _, err := s.GetJob(t.Context(), jobID); return err },
			"Fold":   func() error { _, _, err := s.Fold(t.Context(), jobID); return err },
			"Notify": func() error { return s.Notify(t.Context(), store.Change{All: true}) },
			"Open": func() error {
				_, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn})
				return err
			},
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s without a database: %v, want ErrUnavailable", name, err)
			}
		}
		if err := server.Restart(t.Context(), pgtest.Fast); err != nil {
			t.Fatal(err)
		}
		// Connections of before are found broken one by one.
		for range 8 {
			if err := s.Check(t.Context()); err == nil {
				break
			} else if !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("check after the restart: %v", err)
			}
		}
		// What was committed is there, and the claim is repeated.
		again := claim(t, s, jobID, session, "1", 2)
		if len(again) != 2 || again[0].Lease != held[0].Lease || !again[0].Repeated {
			t.Errorf("restart %d: claimed %+v again, want %+v", i, again, held)
		}
	}
}
