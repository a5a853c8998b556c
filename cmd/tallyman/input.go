package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tallyman-dev/tallyman/client"
)

// stdinName is the FILE that stands for standard input.
const stdinName = "-"

// input is what the FILE arguments name: one file, standard input, or several files and folders.
type input struct {
	paths []string
	files *client.Files // of several and of folders; nil for one file
}

// input looks at everything that the arguments name, so that nothing begins when some of it cannot be read. A pipe is not
// opened, since that waits for who writes to it.
func (p *program) input(paths []string) (input, error) {
	in := input{paths: paths}
	if len(paths) > 1 && slices.Contains(paths, stdinName) {
		return in, usageError("standard input (%s) can only be sent alone, not with other files", stdinName)
	}
	if len(paths) == 1 && paths[0] == stdinName {
		return in, nil
	}
	if len(paths) == 1 {
		info, err := os.Stat(paths[0])
		switch {
		case err != nil:
			return in, err
		case !info.Mode().IsRegular() && !info.IsDir():
			return in, nil
		case !info.IsDir():
			f, err := os.Open(paths[0])
			if err == nil {
				err = f.Close()
			}
			return in, err
		}
	}
	files, err := client.NewFiles(client.FilesConfig{Paths: paths, Skip: func(_ string, info fs.FileInfo) bool {
		return info.IsDir() && p.isData(info)
	}})
	in.files = files
	return in, err
}

// isData reports whether a folder is the data folder, which may have come into being after the files were looked at, and
// changes while they are sent.
func (p *program) isData(folder fs.FileInfo) bool {
	data, err := os.Stat(p.data)
	return err == nil && os.SameFile(data, folder)
}

// fromStdin reports whether it comes from standard input.
func (in input) fromStdin() bool { return in.paths[0] == stdinName }

// name is what findings call a file that is sent alone, and lists the job.
func (in input) name() string {
	switch first := baseName(in.paths[0]); {
	case in.fromStdin():
		return "stdin"
	case len(in.paths) > 1:
		return fmt.Sprintf("%s and %d more", first, len(in.paths)-1)
	default:
		return first
	}
}

// baseName is the last name of a path, also of ".".
func baseName(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	return filepath.Base(path)
}

// title names it to people.
func (in input) title() string {
	if len(in.paths) > 1 {
		return in.name()
	}
	return in.paths[0]
}

// arguments are those that name it again.
func (in input) arguments() string {
	all := make([]string, len(in.paths))
	for i, path := range in.paths {
		all[i] = quoted(path)
	}
	return strings.Join(all, " ")
}

// open opens it from its beginning.
func (p *program) open(ctx context.Context, in input) (io.ReadCloser, error) {
	if in.files != nil {
		_, err := in.files.Seek(0, io.SeekStart)
		return in.files, err
	}
	if in.fromStdin() {
		return interruptible(ctx, io.NopCloser(p.stdin)), nil
	}
	f, err := os.Open(in.paths[0])
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, errors.Join(fmt.Errorf("%s is a folder now", in.paths[0]), f.Close())
	case !info.Mode().IsRegular(): // a pipe, of which a Read may wait for ever
		return interruptible(ctx, f), nil
	}
	return f, nil
}

// interruptible returns what r has until ctx ends, also while a Read of r blocks. That Read goes on until closing r ends
// it; where that does not, as with standard input, until the process ends.
func interruptible(ctx context.Context, r io.ReadCloser) io.ReadCloser {
	out, in := io.Pipe()
	stop := context.AfterFunc(ctx, func() {
		in.CloseWithError(context.Cause(ctx))
		r.Close() // whatever it answers: nothing more is wanted of it
	})
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
		stop()
		r.Close()
	}()
	return out
}

var (
	knownExtensions = regexp.MustCompile(`(?i)\.(jsonl|ndjson|json|gz|gzip|zst|zstd|tar|tgz|tzst|zip)$`)
	notInProjects   = regexp.MustCompile(`[^a-z0-9_-]+`)
)

// The bounds of a project's name, in bytes.
const (
	minProject = 5
	maxProject = 40
)

// projectFromName makes a file's name a valid project.
func projectFromName(path string) string {
	name := baseName(path)
	for knownExtensions.MatchString(name) {
		name = knownExtensions.ReplaceAllString(name, "")
	}
	name = strings.Trim(notInProjects.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if len(name) < minProject {
		name = strings.TrimPrefix(name+"-project", "-")
	}
	return strings.TrimRight(name[:min(len(name), maxProject)], "-")
}
