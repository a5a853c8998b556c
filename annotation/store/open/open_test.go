package open_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/annotation/store/open"
	"github.com/tallyman-dev/tallyman/annotation/store/sqlite"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"sqlite:" + filepath.Join(t.TempDir(), "store.db"),
		pgtest.DSN(t, "empty", nil),
	} {
		s, err := open.Open(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, isSQLite := s.(*sqlite.Store); isSQLite != strings.HasPrefix(name, "sqlite:") {
			t.Errorf("%s is opened as %T", name, s)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenWhatIsNone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "store.db", "mysql://u:secret@host/db", "sqlite:", "postgres://u:secret@127.0.0.1:1/db?connect_timeout=1", "postgres://u:secret@host:port/db"} {
		s, err := open.Open(t.Context(), name)
		if err == nil || s != nil {
			t.Errorf("%q is opened as %v", name, s)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
	if _, err := open.Open(t.Context(), "mysql://host/db"); !errors.Is(err, open.ErrScheme) {
		t.Errorf("error %v, want ErrScheme", err)
	}
}
