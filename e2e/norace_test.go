//go:build linux && !race

package e2e

// raceEnabled says that these tests, and hence the program, are built with the race detector.
const raceEnabled = false
