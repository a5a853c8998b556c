//go:build race

package storetest

// underRace says that the race detector is on. It slows SQLite, which is transpiled, down thirty times.
const underRace = true
