package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// settle parses arguments of a verb with a few flags and applies settings; nil stands for an environment without any.
func settle(t *testing.T, config string, environment map[string]string, args ...string) (map[string]string, error) {
	t.Helper()
	if config != "" {
		path := filepath.Join(t.TempDir(), "tallyman.conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	root := &cobra.Command{Use: "root"}
	root.PersistentFlags().String("config", "", "")
	root.PersistentFlags().String("log-level", "default", "")
	other := &cobra.Command{Use: "other", Run: func(*cobra.Command, []string) {}}
	other.Flags().String("other-flag", "default", "")
	got := make(map[string]string)
	var settleErr error
	verb := &cobra.Command{Use: "verb", Run: func(verb *cobra.Command, _ []string) {
		settleErr = applySettings(verb, func(name string) (string, bool) {
			value, ok := environment[name]
			return value, ok
		})
		for _, name := range []string{"log-level", "count"} {
			got[name] = verb.Flags().Lookup(name).Value.String()
		}
	}}
	verb.Flags().Int("count", 0, "")
	root.AddCommand(verb, other)
	root.SetArgs(append([]string{"verb"}, args...))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return got, settleErr
}

func TestSettingsPrecedence(t *testing.T) {
	const config = "# a comment\n\nlog-level = from the file\ncount=1\nother-flag = for another verb\n"
	environment := map[string]string{"TALLYMAN_LOG_LEVEL": "from the environment"}
	for name, c := range map[string]struct {
		config      string
		environment map[string]string
		args        []string
		want        map[string]string
	}{
		"defaults":    {want: map[string]string{"log-level": "default", "count": "0"}},
		"file":        {config: config, want: map[string]string{"log-level": "from the file", "count": "1"}},
		"environment": {config: config, environment: environment, want: map[string]string{"log-level": "from the environment", "count": "1"}},
		"flag": {config: config, environment: environment, args: []string{"--log-level", "from the flag", "--count=3"},
			want: map[string]string{"log-level": "from the flag", "count": "3"}},
	} {
		got, err := settle(t, c.config, c.environment, c.args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSettingsErrors(t *testing.T) {
	for name, c := range map[string]struct {
		config      string
		environment map[string]string
		want        string
	}{
		"unknown flag":             {config: "color = red", want: "there is no flag --color"},
		"no value":                 {config: "count 3", want: "line 1"},
		"twice":                    {config: "count=1\ncount=2", want: "line 2: count is set for the second time"},
		"wrong value":              {config: "count = many", want: "--count from the configuration file"},
		"wrong in the environment": {environment: map[string]string{"TALLYMAN_COUNT": "many"}, want: "--count from TALLYMAN_COUNT"},
		"no such file":             {environment: map[string]string{"TALLYMAN_CONFIG": "/nowhere/at/all"}, want: "/nowhere/at/all"},
	} {
		if _, err := settle(t, c.config, c.environment); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}
