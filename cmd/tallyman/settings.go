package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	environmentPrefix = "TALLYMAN_"
	// maxConfig bounds a configuration file, in bytes.
	maxConfig = 1 << 20
)

// applySettings gives flags that are not on the command line their values from the environment, or else from the
// configuration file.
func applySettings(verb *cobra.Command, environment func(string) (string, bool)) error {
	config, err := readConfig(verb, environment)
	if err != nil {
		return err
	}
	var problems []error
	verb.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || flag.Name == "help" || flag.Name == "config" {
			return
		}
		name := environmentName(flag.Name)
		value, ok := environment(name)
		if !ok {
			name = "the configuration file"
			value, ok = config[flag.Name]
		}
		if !ok {
			return
		}
		if err := verb.Flags().Set(flag.Name, value); err != nil {
			problems = append(problems, fmt.Errorf("--%s from %s: %w", flag.Name, name, err))
		}
	})
	return errors.Join(problems...)
}

func environmentName(flag string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readConfig reads the file that --config names. A name in it that is no flag of any verb is an error, since it would
// otherwise be ignored in silence.
func readConfig(verb *cobra.Command, environment func(string) (string, bool)) (map[string]string, error) {
	path, err := verb.Flags().GetString("config")
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	if path == "" {
		path, _ = environment(environmentName("config"))
	}
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer file.Close()
	settings, err := parseConfig(io.LimitReader(file, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("read settings from %s: %w", path, err)
	}
	known := flagNames(verb.Root())
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !known[name] {
			return nil, fmt.Errorf("read settings from %s: there is no flag --%s", path, name)
		}
	}
	return settings, nil
}

// parseConfig reads lines of the form name = value; # begins a comment line.
func parseConfig(r io.Reader) (map[string]string, error) {
	settings := make(map[string]string)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d: want a line like data = /srv/tallyman", n)
		}
		if _, twice := settings[name]; twice {
			return nil, fmt.Errorf("line %d: %s is set for the second time", n, name)
		}
		settings[name] = strings.TrimSpace(value)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return settings, nil
}

// flagNames returns the flags of a command and of all below it.
func flagNames(command *cobra.Command) map[string]bool {
	names := make(map[string]bool)
	add := func(flag *pflag.Flag) { names[flag.Name] = true }
	command.PersistentFlags().VisitAll(add)
	command.LocalFlags().VisitAll(add)
	for _, below := range command.Commands() {
		maps.Copy(names, flagNames(below))
	}
	return names
}
