package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// submission is what the flags of run and submit say about the jobs to be made.
type submission struct {
	project    string
	kind       string
	mode       string
	resume     string
	parameters map[string]string
	labels     map[string]string
	priority   int32
	policy     tallymanv1.Policy
	keepBytes  int64
	stall      time.Duration
	attempt    time.Duration
}

func (s *submission) flags(flags *pflag.FlagSet) {
	flags.StringVar(&s.project, "project", "", "project that will own the annotations (default: from the file's name)")
	flags.StringVar(&s.mode, "mode", tallymanv1.ModeReplace, "what storing does to annotations that are there: replace, add, merge or skip")
	flags.StringVar(&s.resume, "resume", "", "go on with the interrupted upload of this id; needs the same single FILE")
	flags.StringToStringVar(&s.parameters, "param", nil, "parameter for the handler, name=value")
	flags.StringToStringVar(&s.labels, "label", nil, "label for people, name=value")
	flags.Int32Var(&s.priority, "priority", 0, "-100 to 100; higher is done first")
	flags.StringVar(&s.policy.DefaultSourcedb, "sourcedb", "", "sourcedb of items that have none")
	flags.Int32Var(&s.policy.BatchWeight, "batch-weight", 0, "annotations after which a batch closes (default 500)")
	flags.Int32Var(&s.policy.BatchItems, "batch-items", 0, "items at which a batch closes (default 1000)")
	sizeVar(flags, &s.policy.BatchBytes, "batch-bytes", "bytes at which a batch closes (default 8 MiB)")
	sizeVar(flags, &s.keepBytes, "keep-bytes", "of standard input and pipes, kept to be sent again after a cut (default 64 MiB)")
	flags.Int32Var(&s.policy.MaxAttempts, "max-attempts", 0, "attempts at a batch that may fail (default 3)")
	flags.Int32Var(&s.policy.MaxRunning, "max-running", 0, "batches that run at the same time at most (default: no limit)")
	flags.DurationVar(&s.stall, "stall-timeout", 0, "time without a finished item after which an attempt fails (default 10m; -1s for none)")
	flags.DurationVar(&s.attempt, "attempt-timeout", 0, "time after which an attempt fails whatever it does (default: none)")
	flags.Int64Var(&s.policy.MaxBadItems, "max-bad-items", 0, "failed and crashed items past which the job stops as failed (default: no limit)")
	flags.Float64Var(&s.policy.MaxBadPercent, "max-bad-percent", 0,
		"the same in per cent of the items that have ended, from 100 on (default: no limit)")
	flags.Int32Var(&s.policy.MaxSplits, "max-splits", 0,
		"batches that may be split to find items that kill workers (default 1000; -1 for none)")
	flags.BoolVar(&s.policy.Strict, "strict", false, "stop the job as failed at the first item that is neither stored nor skipped")
}

// modesHelp explains --mode.
const modesHelp = `
--mode says what becomes of the annotations that the project has on the file's documents:
  replace  those of jobs submitted before are removed
  add      they stay, and ids that are taken are changed
  merge    they stay, and what is there already is not stored twice
  skip     documents that have any are left as they are; their items end as skipped`

// file is one upload to be made.
type file struct {
	path   string
	upload client.Upload
}

// files returns the uploads for the FILE arguments.
func (s *submission) files(paths []string) ([]file, error) {
	if s.resume != "" && len(paths) != 1 {
		return nil, usageError("--resume needs the one FILE whose upload was interrupted")
	}
	if s.keepBytes < 0 {
		return nil, usageError("--keep-bytes %d: must not be negative", s.keepBytes)
	}
	if s.stall != 0 {
		s.policy.StallTimeout = durationpb.New(s.stall)
	}
	if s.attempt != 0 {
		s.policy.AttemptTimeout = durationpb.New(s.attempt)
	}
	var files []file
	for _, path := range paths {
		f := file{path: path, upload: client.Upload{
			ID:         s.resume,
			Project:    s.project,
			Kind:       s.kind,
			Mode:       s.mode,
			Parameters: s.parameters,
			Labels:     s.labels,
			Priority:   s.priority,
			Policy:     &s.policy,
			FileName:   filepath.Base(path),
			KeepBytes:  s.keepBytes,
		}}
		if f.upload.ID == "" {
			f.upload.ID = uuid.NewString()
		}
		if path == stdinName {
			f.upload.FileName = "stdin"
		}
		if f.upload.Project == "" && needsProject(s.kind) {
			if path == stdinName {
				return nil, usageError("--project is needed for what comes from standard input")
			}
			f.upload.Project = projectFromName(path)
		}
		files = append(files, f)
	}
	return files, nil
}

func needsProject(kind string) bool { return kind == "" || kind == tallymanv1.KindAnnotations }

// stdinName is the FILE that stands for standard input.
const stdinName = "-"

// open opens what is to be uploaded.
func (p *program) open(ctx context.Context, path string) (io.ReadCloser, error) {
	if path == stdinName {
		return interruptible(ctx, io.NopCloser(p.stdin)), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, errors.Join(isFolder(path), f.Close())
	case !info.Mode().IsRegular(): // a pipe, of which a Read may wait for ever
		return interruptible(ctx, f), nil
	}
	return f, nil
}

// readable names every FILE that cannot be opened, so that nothing begins when one of several is wrong. A pipe is not
// opened, since that waits for who writes to it.
func readable(paths []string) error {
	var problems []error
	for _, path := range paths {
		if path == stdinName {
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			problems = append(problems, err)
		case info.IsDir():
			problems = append(problems, isFolder(path))
		case info.Mode().IsRegular():
			f, err := os.Open(path)
			if err == nil {
				err = f.Close()
			}
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func isFolder(path string) error { return fmt.Errorf("%s is a folder; name the files in it", path) }

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
	name := filepath.Base(path)
	for knownExtensions.MatchString(name) {
		name = knownExtensions.ReplaceAllString(name, "")
	}
	name = strings.Trim(notInProjects.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if len(name) < minProject {
		name = strings.TrimPrefix(name+"-project", "-")
	}
	return strings.TrimRight(name[:min(len(name), maxProject)], "-")
}

// announceProject says what was chosen where nobody asked.
func (p *program) announceProject(s *submission, f file) {
	if s.project == "" && f.upload.Project != "" {
		fmt.Fprintf(p.stderr, "project %s, from the name of %s (--project names another)\n", f.upload.Project,
			display.Clean(f.path))
	}
}

// sending is how far an upload got.
type sending struct {
	client.UploadResult
	complete bool
}

// upload sends a file and returns what is known of its job, also with an error.
func (p *program) upload(ctx context.Context, c *client.Client, f file) (sending, error) {
	source, err := p.open(ctx, f.path)
	if err != nil {
		return sending{}, err
	}
	defer source.Close()
	result, err := c.Upload(ctx, source, f.upload)
	return sending{result, err == nil}, err
}
