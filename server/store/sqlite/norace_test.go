//go:build !race

package sqlite

const modelRuns = 100
