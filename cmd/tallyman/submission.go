package main

import (
	"cmp"
	"context"
	"fmt"
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
	flags.StringVar(&s.resume, "resume", "", "go on with the interrupted upload of this id; needs the same FILEs")
	flags.StringToStringVar(&s.parameters, "param", nil, "parameter for the handler, name=value")
	flags.StringToStringVar(&s.labels, "label", nil, "label for people, name=value")
	flags.Int32Var(&s.priority, "priority", 0, "-100 to 100; higher is done first")
	flags.StringVar(&s.policy.DefaultSourcedb, "sourcedb", "", "sourcedb of items that have none")
	flags.BoolVar(&s.policy.SourceidFromName, sourceIDFlag, false, sourceIDHelp)
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

// The flag that gives items the name of their file.
const (
	sourceIDFlag = "sourceid-from-name"
	sourceIDHelp = "items that have no sourceid have the name of their file, without extensions like .json.gz"
)

// filesHelp explains FILE.
const filesHelp = `
A FILE is JSON Lines, an array of items, or one object after another; or a tar or ZIP archive of such files; or a folder of
them; any of these may be compressed by gzip or zstd. The content decides. Several FILEs and folders are one job. Of a
folder all is sent but what has a name that begins with a dot; links in it are not followed.
`

// modesHelp explains --mode.
const modesHelp = `
--mode says what becomes of the annotations that the project has on the file's documents:
  replace  those of jobs submitted before are removed
  add      they stay, and ids that are taken are changed
  merge    they stay, and what is there already is not stored twice
  skip     documents that have any are left as they are; their items end as skipped`

// upload is what is sent, and what is to be done with it.
type upload struct {
	input
	client.Upload
}

// upload returns the upload of an input.
func (s *submission) upload(in input) (upload, error) {
	if s.keepBytes < 0 {
		return upload{}, usageError("--keep-bytes %d: must not be negative", s.keepBytes)
	}
	if s.stall != 0 {
		s.policy.StallTimeout = durationpb.New(s.stall)
	}
	if s.attempt != 0 {
		s.policy.AttemptTimeout = durationpb.New(s.attempt)
	}
	if s.policy.GetSourceidFromName() && in.fromStdin() {
		return upload{}, usageError("--%s: standard input has no name", sourceIDFlag)
	}
	u := upload{input: in, Upload: client.Upload{
		ID:         cmp.Or(s.resume, uuid.NewString()),
		New:        s.resume == "",
		Project:    s.project,
		Kind:       s.kind,
		Mode:       s.mode,
		Parameters: s.parameters,
		Labels:     s.labels,
		Priority:   s.priority,
		Policy:     &s.policy,
		FileName:   in.name(),
		KeepBytes:  s.keepBytes,
	}}
	if u.Project == "" && needsProject(s.kind) {
		if in.fromStdin() {
			return upload{}, usageError("--project is needed for what comes from standard input")
		}
		u.Project = projectFromName(in.paths[0])
	}
	return u, nil
}

func needsProject(kind string) bool { return kind == "" || kind == tallymanv1.KindAnnotations }

// announceProject says what was chosen where nobody asked.
func (p *program) announceProject(s *submission, u upload) {
	if s.project == "" && u.Project != "" {
		fmt.Fprintf(p.stderr, "project %s, from the name of %s (--project names another)\n", u.Project,
			display.Clean(u.paths[0]))
	}
}

// sending is how far an upload got.
type sending struct {
	client.UploadResult
	complete bool
}

// upload sends an input and returns what is known of its job, also with an error.
func (p *program) upload(ctx context.Context, c *client.Client, u upload) (sending, error) {
	source, err := p.open(ctx, u.input)
	if err != nil {
		return sending{}, err
	}
	defer source.Close()
	result, err := c.Upload(ctx, source, u.Upload)
	return sending{result, err == nil}, err
}
