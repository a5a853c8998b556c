// Package watch keeps the snapshots of jobs current and brings them to those who watch.
//
//	a commit that changed a job ──► Folder ──► store.Fold ──► Hub ──► watchers of this coordinator
//	                                   │
//	                                   └─────► Notifier ──► Hub and dispatcher of every other one
//
// Watching is level-triggered: a watcher is given whole snapshots, never changes, and only ever the latest. A watcher
// that does not read costs one pointer. Nothing depends on a notification arriving: what a lost one would have said is
// found by a poll once a second.
package watch
