//go:build !race

package sqlite

// modelRuns is how many sequences the model tries by itself.
const modelRuns = 30
