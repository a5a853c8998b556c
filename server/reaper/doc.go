// Package reaper ends what nobody else ends: leases that ran out, uploads that nobody resumes, sessions that fell
// silent, the open batches of jobs that are being stopped, and the rows of deleted jobs. All of it runs in small steps
// on every coordinator; each step's statement repeats its own condition, so that no leader is needed.
package reaper
