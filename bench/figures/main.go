// Command figures puts the reports of benches into a document, between two lines that mark the place:
//
//	figures -into docs/benchmarks.md bin/bench/*.json bin/bench/go.txt
//
// A report is JSON, as `tallyman bench -o json` and peers write it; of other files, output of go test, the lines of
// benchmarks are taken. The same reports give the same document.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tallyman-dev/tallyman/bench"
)

// The lines between which figures are.
const (
	begin = "<!-- figures: made by `make figures` -->\n"
	end   = "<!-- /figures -->\n"
)

func main() {
	into := flag.String("into", "docs/benchmarks.md", "the document")
	flag.Parse()
	if err := run(*into, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(into string, paths []string) error {
	if len(paths) == 0 {
		return errors.New("no reports are given: run `make bench` first")
	}
	var figures bytes.Buffer
	for _, path := range paths {
		if err := figure(&figures, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	document, err := os.ReadFile(into)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	changed, err := replaced(document, figures.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", into, err)
	}
	if err := os.WriteFile(into, changed, 0o600); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}

// figure adds what a file reports.
func figure(w *bytes.Buffer, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	w.WriteString("\n")
	if filepath.Ext(path) == ".json" {
		var report bench.Report
		if err := json.Unmarshal(data, &report); err != nil {
			return fmt.Errorf("read the report: %w", err)
		}
		return report.WriteMarkdown(w)
	}
	w.WriteString("Go's benchmarks:\n\n```text\n")
	for line := range bytes.Lines(data) {
		for _, prefix := range []string{"Benchmark", "pkg:", "cpu:"} {
			if bytes.HasPrefix(line, []byte(prefix)) {
				w.Write(line)
			}
		}
	}
	w.WriteString("```\n")
	return nil
}

// replaced returns the document with other figures.
func replaced(document, figures []byte) ([]byte, error) {
	before, rest, found := bytes.Cut(document, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		return nil, fmt.Errorf("the document has no place for figures, between lines %q and %q", begin, end)
	}
	return bytes.Join([][]byte{before, []byte(begin), figures, []byte("\n" + end), after}, nil), nil
}
