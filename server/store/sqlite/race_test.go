//go:build race

package sqlite

// The race detector slows the transpiled engine down thirty times; the model is one goroutine, in which it has nothing
// to find.
const modelRuns = 3
