package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// The exit codes, which scripts rely on.
const (
	exitOK           = 0
	exitOther        = 1
	exitWithErrors   = 2
	exitJobFailed    = 3
	exitJobCancelled = 4
	exitUsage        = 64
	exitUnreachable  = 69
	exitNotPermitted = 77
	exitInterrupted  = 130
)

// exitError ends the program with a code. Without err everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError says that the command line is wrong.
func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// exitCode returns what the program ends with for an error of a verb.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	if _, ok := errors.AsType[*folder.HeldError](err); ok {
		return exitOther
	}
	if refusal, ok := errors.AsType[*client.Error](err); ok {
		if refusal.Reason == tallymanv1.ErrorReason_ERROR_REASON_DATABASE_FULL {
			return exitOther // it does answer
		}
		switch refusal.Code {
		case codes.Unavailable:
			return exitUnreachable
		case codes.InvalidArgument:
			return exitUsage
		case codes.PermissionDenied, codes.Unauthenticated:
			return exitNotPermitted
		default:
			return exitOther
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return exitNotPermitted
	}
	return exitOther
}

// withFlags returns the text of an error, with the flags of the verb in the place of the fields of the protocol that they
// are sent in.
func withFlags(verb *cobra.Command, err error) string {
	text := err.Error()
	refusal, ok := errors.AsType[*client.Error](err)
	if !ok {
		return text
	}
	for _, field := range refusal.Fields {
		if name := flagOf(field.Name); verb.Flags().Lookup(name) != nil {
			text = strings.Replace(text, field.Name+": ", "--"+name+": ", 1)
		}
	}
	return text
}

// flagNamesOf are the flags whose names are not those of their fields.
var flagNamesOf = map[string]string{
	"default_sourcedb": "sourcedb", "sourceid_from_name": "sourceid-from-name", "parameters": "param", "labels": "label", "upload_id": "resume", "job_id": "job",
	"batch_id": "batch", "states": "state", "page_size": "limit",
}

// flagOf returns the flag that a field, such as header.policy.batch_weight or states[0], would come from.
func flagOf(field string) string {
	name, _, _ := strings.Cut(field[strings.LastIndexByte(field, '.')+1:], "[")
	return cmp.Or(flagNamesOf[name], strings.ReplaceAll(name, "_", "-"))
}

// jobExit returns the code that a job's end stands for.
func jobExit(state tallymanv1.JobState) int {
	switch state {
	case tallymanv1.JobState_JOB_STATE_SUCCEEDED:
		return exitOK
	case tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS:
		return exitWithErrors
	case tallymanv1.JobState_JOB_STATE_FAILED:
		return exitJobFailed
	case tallymanv1.JobState_JOB_STATE_CANCELLED:
		return exitJobCancelled
	default:
		return exitOther
	}
}

// worse returns the exit code that matters more, of several jobs.
func worse(a, b int) int {
	for _, code := range []int{exitOther, exitJobFailed, exitJobCancelled, exitWithErrors} {
		if a == code || b == code {
			return code
		}
	}
	return exitOK
}
