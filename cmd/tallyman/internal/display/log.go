package display

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// NewLog returns a log for a person at a terminal who looks at something else: a short line a record, with where it
// happened and why. Everything is in the log in text or JSON.
func NewLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(&brief{w: w, level: level, mu: new(sync.Mutex)})
}

type brief struct {
	w     io.Writer
	level slog.Level
	mu    *sync.Mutex
	attrs []slog.Attr
}

var _ slog.Handler = (*brief)(nil)

// Enabled implements slog.Handler.
func (b *brief) Enabled(_ context.Context, level slog.Level) bool { return level >= b.level }

// places are the attributes that say where, with their names for people, in this order.
var places = []struct{ key, name string }{{"job_id", "job"}, {"batch_id", "batch"}, {"attempt", "attempt"}, {"method", "call"}}

// Handle implements slog.Handler.
func (b *brief) Handle(_ context.Context, record slog.Record) error {
	values := map[string]string{}
	keep := func(a slog.Attr) bool {
		values[a.Key] = Clean(a.Value.String())
		return true
	}
	for _, a := range b.attrs {
		keep(a)
	}
	record.Attrs(keep)
	var line strings.Builder
	if record.Level >= slog.LevelError {
		line.WriteString("error: ")
	}
	line.WriteString(record.Message)
	var where []string
	for _, p := range places {
		if v := values[p.key]; v != "" {
			where = append(where, p.name+" "+v)
		}
	}
	if len(where) > 0 {
		fmt.Fprintf(&line, " (%s)", strings.Join(where, ", "))
	}
	for _, key := range []string{"what", "reason", "error"} {
		if v := values[key]; v != "" {
			line.WriteString(": " + v)
		}
	}
	if values["batch_state"] == "pending" {
		line.WriteString("; it is tried again")
	}
	line.WriteByte('\n')
	b.mu.Lock()
	defer b.mu.Unlock()
	return write(b.w, []byte(line.String()))
}

// WithAttrs implements slog.Handler.
func (b *brief) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *b
	with.attrs = append(append([]slog.Attr{}, b.attrs...), attrs...)
	return &with
}

// WithGroup implements slog.Handler. A short line has no room for groups.
func (b *brief) WithGroup(string) slog.Handler { return b }
