package process

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tallyman-dev/tallyman/worker"
)

// variablePrefix is that of the variables that a command is told of its job by. Those of this process with it, which may
// hold passwords of databases, are not handed on.
const variablePrefix = "TALLYMAN_"

// inherited returns the variables that the command has of whoever runs this process.
func (h *Handler) inherited() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, variablePrefix) {
			env = append(env, v)
		}
	}
	return append(env, h.config.Env...)
}

// environment returns the variables of the command for a batch: in mode Stream what is true for other batches, too.
func (h *Handler) environment(b *worker.Batch) []string {
	env := append(h.inherited(), shared(b)...)
	if h.config.Mode == Batch {
		env = append(env,
			variablePrefix+"JOB_ID="+strconv.FormatInt(b.JobID, 10),
			variablePrefix+"BATCH_ID="+strconv.FormatInt(b.ID, 10),
			fmt.Sprintf(variablePrefix+"ATTEMPT=%d", b.Attempt))
	}
	return env
}

// shared returns the variables that all batches of a job have, and those of other jobs like it.
func shared(b *worker.Batch) []string {
	parameters := "{}"
	if data, err := json.Marshal(b.Parameters); err == nil && len(b.Parameters) > 0 {
		parameters = string(data)
	}
	env := []string{
		variablePrefix + "PROJECT=" + b.Project, variablePrefix + "KIND=" + b.Kind, variablePrefix + "MODE=" + b.Mode,
		variablePrefix + "PARAMETERS=" + parameters,
	}
	values := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(b.Parameters)) {
		v := variableName(name)
		values[v] = append(values[v], b.Parameters[name])
	}
	for _, v := range slices.Sorted(maps.Keys(values)) {
		// Where two parameters would have one name, and where a value cannot be in a variable, PARAMETERS has them.
		if len(values[v]) == 1 && !strings.ContainsRune(values[v][0], 0) {
			env = append(env, variablePrefix+"PARAM_"+v+"="+values[v][0])
		}
	}
	return env
}

// variableName makes a parameter's name one that every shell can read.
func variableName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, name)
}
