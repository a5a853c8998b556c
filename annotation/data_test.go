package annotation_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// sharedData reads a real file beside the repository, and skips the test where there is none.
func sharedData(tb testing.TB, name string) []byte {
	tb.Helper()
	path := filepath.Join("..", "..", "shared", "data", name)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		tb.Skipf("SKIPPED, NOT PASSED: the real data %s is not beside this checkout", path)
	}
	if err != nil {
		tb.Fatalf("read data: %v", err)
	}
	return content
}

// lines splits JSON Lines.
func lines(tb testing.TB, content []byte) [][]byte {
	tb.Helper()
	var all [][]byte
	scanner := bufio.NewScanner(bytes.NewReader(content))
	scanner.Buffer(nil, len(content)+1)
	for scanner.Scan() {
		all = append(all, bytes.Clone(scanner.Bytes()))
	}
	if err := scanner.Err(); err != nil {
		tb.Fatalf("split lines: %v", err)
	}
	return all
}

// elements splits a JSON array.
func elements(tb testing.TB, content []byte) []json.RawMessage {
	tb.Helper()
	var all []json.RawMessage
	if err := json.Unmarshal(content, &all); err != nil {
		tb.Fatalf("split array: %v", err)
	}
	return all
}
