//go:build race

package align_test

const raceDetector = true
