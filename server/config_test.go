package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/ingest"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

func TestConfigValidate(t *testing.T) {
	const db = "sqlite:x.db"
	tests := []struct {
		name string
		cfg  Config
		want string // part of the error; "" for none
	}{
		{"defaults", Config{Database: db}, ""},
		{"no database", Config{}, "must be postgres"},
		{"another database", Config{Database: "mysql://user:secret@host/db"}, "mysql://host/db"},
		{"loopback", Config{Database: db, Listen: "127.0.0.1:0"}, ""},
		{"loopback 6", Config{Database: db, Listen: "[::1]:0"}, ""},
		{"localhost", Config{Database: db, Listen: "localhost:0"}, ""},
		{"every address", Config{Database: db, Listen: ":7650"}, "--insecure"},
		{"another address", Config{Database: db, Listen: "10.0.0.1:7650"}, "--insecure"},
		{"a name", Config{Database: db, Listen: "example.org:7650"}, "--insecure"},
		{"every address, insecure", Config{Database: db, Listen: ":7650", Insecure: true}, ""},
		{"no port", Config{Database: db, Listen: "127.0.0.1"}, "listen address"},
		{"no port, insecure", Config{Database: db, Listen: "127.0.0.1", Insecure: true}, "listen address"},
		{"negative lease", Config{Database: db, Lease: -1}, "lease must not be negative"},
		{"negative drain", Config{Database: db, DrainTimeout: -1}, "drain-timeout must not be negative"},
		{"negative limit", Config{Database: db, MaxRunningPerProject: -1}, "max-running-per-project must not be negative"},
		{"beats too far apart", Config{Database: db, Lease: 10 * time.Second, HeartbeatInterval: 4 * time.Second}, "a third of lease"},
		{"short lease", Config{Database: db, Lease: time.Second}, ""},
		{"reader", Config{Database: db, Reader: ingest.ReaderConfig{MaxItem: -1}}, "max"},
	}
	for _, test := range tests {
		err := test.cfg.Validate()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the password is in %q", test.name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tallyman.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sqlite := "sqlite:" + file
	empty := pgtest.DSN(t, "nothing", nil)
	tests := []struct {
		name string
		cfg  Config
		want error // nil for any
	}{
		{"a public address", Config{Database: sqlite, Migrate: true, Listen: ":0"}, nil},
		{"SQLite without a schema", Config{Database: sqlite}, store.ErrSchema},
		{"Postgres without a schema", Config{Database: empty}, store.ErrSchema},
		{"Postgres that is not there", Config{Database: "postgres://127.0.0.1:1/none?connect_timeout=5"}, store.ErrUnavailable},
		{"an address that is not ours", Config{Database: sqlite, Migrate: true, Listen: "203.0.113.1:0", Insecure: true}, nil},
	}
	for _, test := range tests {
		s, err := Open(t.Context(), test.cfg)
		if err == nil {
			t.Errorf("%s: opened", test.name)
			err = s.Close()
		}
		if test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestOpenMigratesWhenAsked(t *testing.T) {
	for _, database := range []string{"sqlite:" + filepath.Join(t.TempDir(), "tallyman.db"), pgtest.DSN(t, "nothing", nil)} {
		for _, migrate := range []bool{true, true, false} {
			s, err := Open(t.Context(), Config{Database: database, Migrate: migrate})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Close(), s.Close()); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	}
}

func TestOpenTakesAMigratedDatabase(t *testing.T) {
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	s, err := Open(t.Context(), Config{Database: dsn, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr() == "" || strings.HasSuffix(s.Addr(), ":0") {
		t.Errorf("address %q", s.Addr())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("run that was over before it began: %v", err)
	}
}
