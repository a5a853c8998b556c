package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker/process"
)

// completeValues has shells complete the values of flags that have few, in a command and all below it.
func completeValues(command *cobra.Command) {
	jobStates := display.EnumNames("JOB_STATE_", tallymanv1.JobState_value)
	values := map[string][]string{
		"output": {string(display.Table), string(display.JSON), string(display.TSV)}, "log-format": {"text", "json"},
		"log-level": {"debug", "info", "warn", "error"}, "state": jobStates,
		"outcome":  display.EnumNames("OUTCOME_", tallymanv1.Outcome_value),
		"severity": display.EnumNames("SEVERITY_", tallymanv1.Severity_value),
		"mode":     tallymanv1.Modes(), "discontinuous": {chained, bagged},
		"exec-mode": {string(process.Stream), string(process.Batch)}, "exec-output": {string(process.Text), string(process.JSON)},
	}
	switch command.Name() {
	case "batches", "retry":
		values["state"] = display.EnumNames("BATCH_STATE_", tallymanv1.BatchState_value)
	case "cleanup":
		values["state"] = slices.DeleteFunc(slices.Clone(jobStates), func(name string) bool {
			return !client.Ended(tallymanv1.JobState(tallymanv1.JobState_value["JOB_STATE_"+strings.ToUpper(name)]))
		})
	}
	for name, list := range values {
		if command.LocalNonPersistentFlags().Lookup(name) != nil || command.PersistentFlags().Lookup(name) != nil {
			// Its only error is that the flag is not there, or that this was done before.
			_ = command.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	for _, below := range command.Commands() {
		completeValues(below)
	}
}
