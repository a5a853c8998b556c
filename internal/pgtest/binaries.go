//go:build unix

package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoBinaries is returned by [Start] when no PostgreSQL server binaries are found.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries found: run tools/postgres.sh, or set TALLYMAN_POSTGRES_BIN or TALLYMAN_TEST_POSTGRES")

// binaries returns the folder that holds the server's binaries.
func binaries() (string, error) {
	if dir := os.Getenv("TALLYMAN_POSTGRES_BIN"); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("find PostgreSQL: TALLYMAN_POSTGRES_BIN=%s holds no postgres and initdb", dir)
		}
		return dir, nil
	}
	var found []string
	if os.Getenv("TALLYMAN_PG_SEARCH") != "none" {
		found = installed()
	}
	found = append(found, unpacked()...)
	found = slices.DeleteFunc(found, func(dir string) bool { return !complete(dir) })
	if len(found) == 0 {
		return "", ErrNoBinaries
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
}

// installed returns the folders in which the system may have binaries.
func installed() []string {
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			panic(err) // the patterns are constants
		}
		dirs = append(dirs, matches...)
	}
	return dirs
}

// unpacked returns the folders that tools/postgres.sh filled in this repository.
func unpacked() []string {
	dir, err := os.Getwd()
	if err != nil {
		return nil
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			matches, err := filepath.Glob(filepath.Join(dir, ".cache/postgres/tree/usr/lib/postgresql/*/bin"))
			if err != nil {
				return nil
			}
			return matches
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

func complete(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// version reads the major version out of a path such as /usr/lib/postgresql/15/bin, 0 where it has none.
func version(dir string) int {
	name := filepath.Base(filepath.Dir(dir))
	digits := name[strings.LastIndexAny(name, "-@")+1:]
	major, _, _ := strings.Cut(digits, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return n
}

// libraries returns the LD_LIBRARY_PATH that the binaries in dir need: none unless they were unpacked beside their
// libraries into a folder that is not the system's root.
func libraries(dir string) string {
	root, _, ok := strings.Cut(dir, "/usr/lib/postgresql/")
	if !ok || root == "" {
		return ""
	}
	var paths []string
	for _, pattern := range []string{"/usr/lib/*-linux-*", "/lib/*-linux-*"} {
		matches, err := filepath.Glob(root + pattern)
		if err != nil {
			continue // the folder's own name is no pattern: the server then says which library it misses
		}
		paths = append(paths, matches...)
	}
	return strings.Join(paths, ":")
}
