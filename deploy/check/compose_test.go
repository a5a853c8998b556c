package check

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

func TestCompose(t *testing.T) {
	load := func(environment types.Mapping) (*types.Project, error) {
		return loader.LoadWithContext(context.Background(), types.ConfigDetails{
			WorkingDir: "../compose", Environment: environment, ConfigFiles: []types.ConfigFile{{Filename: "../compose/compose.yaml"}},
		})
	}
	if _, err := load(types.Mapping{}); err == nil {
		t.Error("it starts without a password of the database")
	}
	project, err := load(types.Mapping{"TALLYMAN_DB_PASSWORD": "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := project.ServiceNames(), []string{"coordinator", "database", "front", "schema", "worker"}; !slices.Equal(got, want) {
		t.Fatalf("services %v, want %v", got, want)
	}
	for name, scale := range map[string]int{"coordinator": 2, "worker": 3, "schema": 1} {
		service := project.Services[name]
		if got := service.GetScale(); got != scale {
			t.Errorf("%d of %s, want %d", got, name, scale)
		}
		checkCommand(t, name, service.Command, slices.Collect(maps.Keys(service.Environment)))
		if service.Image != "tallyman" || service.Build == nil || !service.ReadOnly {
			t.Errorf("%s is not built here, or may write to its image", name)
		}
		if h := service.HealthCheck; h != nil {
			checkCommand(t, name+", its health", h.Test[2:], nil)
		}
		if len(service.Ports) > 0 {
			t.Errorf("%s can be reached from outside", name)
		}
	}
	for _, port := range project.Services["front"].Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("port %s can be reached from other hosts", port.Published)
		}
	}
}
