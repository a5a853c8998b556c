// Package bench measures Tallyman: the real program, as processes of its own, on a database made for the purpose, with
// the clocks of this machine. A scenario asks one question; what it answers is a [Result], several of which make a
// [Table]. `tallyman bench` runs them for whoever wants to know what a machine can do; docs/benchmarks.md says what they
// mean and what was seen.
//
// # What the numbers are
//
// Client, coordinator, workers and database share the machine, as they do for somebody who tries it. Nothing is warmed up
// but what a scenario says. The database writes with its own settings; that of SQLite is flushed with every commit. A
// machine that others use gives other numbers every time: a comparison is only worth something within one run, and over
// several rounds.
package bench
