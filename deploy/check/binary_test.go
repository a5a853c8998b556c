package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// binary is the program, as it is built here.
var binary string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "tallyman-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(folder, "tallyman")
	build := exec.Command("go", "build", "-o", binary, "./cmd/tallyman")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	code := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	if err := os.RemoveAll(folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// checkCommand fails the test unless the program takes a command line, whose first word is a verb, and has a flag for each
// of its settings in the environment.
func checkCommand(t *testing.T, where string, arguments []string, environment []string) {
	t.Helper()
	// Flags are read in their order: a wrong one is refused before the last asks for help.
	out, err := exec.Command(binary, append(slices.Clone(arguments), "--help")...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: tallyman %s: %v\n%s", where, strings.Join(arguments, " "), err, out)
		return
	}
	for _, name := range environment {
		flag, ok := strings.CutPrefix(name, "TALLYMAN_")
		if !ok {
			continue
		}
		flag = "--" + strings.ToLower(strings.ReplaceAll(flag, "_", "-"))
		if !strings.Contains(string(out), flag+" ") {
			t.Errorf("%s: %s is set, and tallyman %s has no %s", where, name, arguments[0], flag)
		}
	}
}

// checkSettings fails the test unless each line of a file of settings is one of a verb's flags.
func checkSettings(t *testing.T, verb, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var arguments []string
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, " = ")
		if !ok {
			t.Errorf("%s: %q is no flag = value", path, line)
			continue
		}
		arguments = append(arguments, "--"+name, value)
	}
	if len(arguments) == 0 {
		t.Errorf("%s has no settings", path)
	}
	checkCommand(t, path, append([]string{verb}, arguments...), nil)
}
