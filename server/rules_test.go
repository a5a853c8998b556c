package server

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/access"
)

// served returns the full names of all RPCs that a server has.
func served(s *Server) (methods []string) {
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, "/"+service+"/"+m.Name)
		}
	}
	slices.Sort(methods)
	return methods
}

func TestEveryCallHasARule(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db"), Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if diff := cmp.Diff(served(s), access.Methods()); diff != "" {
		t.Errorf("(-served +with a rule):\n%s", diff)
	}
	for _, m := range access.Methods() {
		if r := access.Of(m); !r.Open && (len(r.Roles) == 0 || r.Reach == 0) {
			t.Errorf("the rule of %s permits nobody anything", m)
		}
	}
}
