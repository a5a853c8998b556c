//go:build race

package ingest

// raceEnabled says that these tests are built with the race detector.
const raceEnabled = true
