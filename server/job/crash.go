package job

import (
	"fmt"
	"time"
)

// Crash is what a worker that lives says of the death of a process in which it handled a batch.
type Crash struct {
	Suspect     int32  // place in the batch, from 1, of the item that the process had at hand; 0 when unknown
	Signal      string // that ended it, such as SIGSEGV; "" when it exited by itself
	ExitCode    int32
	PeakMemory  int64  // in bytes; 0 when unknown
	Stderr      string // the end of what it wrote there
	Fingerprint string // of like crashes; "" when nothing is known
}

// Suspicion is what the deaths of a batch, and of the batches it was halved from, say about its items.
type Suspicion struct {
	// LoneDeaths counts deaths after which the guilty item may be any of the open ones.
	LoneDeaths int32
	// Suspect is the place in the batch, from 1, of the one item that its last death accuses; 0 when that is none.
	Suspect int32
	// DiedOn is the worker on which it and its ancestors died; "" before the first death, Several after deaths on more
	// than one.
	DiedOn string
	// Solo says that it killed a worker's whole process: it is granted only to a session that holds nothing else.
	Solo bool
}

// Several stands in Suspicion.DiedOn for more than one worker. It is not a valid worker id.
const Several = "\n"

// Death is what is known of the death of the process that handled a batch.
type Death struct {
	Worker  string // on which it died
	Process bool   // it was the worker's own process, not a child of it
	Shared  bool   // and it handled other batches too, any of which may be guilty
	Suspect int32  // place in the batch, from 1, of the item it had at hand; 0 when unknown
	Others  bool   // there is another worker, alive, that could handle the batch
	Splits  int64  // batches of the job that were split before
	Drained bool   // the worker is drained since everything dies on it
}

// Part is a batch that, with others, replaces one that is split.
type Part struct {
	First int32 // place of its first item in the batch that is split, from 0
	Items int32
	State BatchState // pending; completed for the done items; crashed for a culprit
	Suspicion
}

// Bounds of the wait in which a batch that died is offered to other workers first: it doubles with every death.
const (
	avoidFirst = 10 * time.Second
	avoidMost  = 5 * time.Minute
)

// die decides what the death of a batch with open items leads to. An item is named only after two deaths that were its
// own: it was at hand, or the only one left. While other workers live, deaths on one worker name and split nothing.
func (d *Decision) die(b *Batch, death Death, p Policy) {
	if death.Drained {
		d.State = BatchPending
		d.Why = "tried again elsewhere: its worker is drained, since everything dies on it"
		return
	}
	open := b.ItemCount - b.DoneItems
	switch d.DiedOn {
	case "":
		d.DiedOn = death.Worker
	case death.Worker, Several:
	default:
		d.DiedOn = Several
	}
	d.Solo = d.Solo || death.Process
	d.State = BatchPending

	guarded := death.Others && d.DiedOn != Several
	if guarded {
		d.Avoid = min(avoidFirst<<min(max(d.Crashes-1, 0), 10), avoidMost)
	}
	if death.Shared {
		d.Why = "tried again alone: the worker died with several batches, and any of them may be guilty"
		return
	}
	suspect := death.Suspect
	switch {
	case open == 1:
		suspect = b.DoneItems + 1
	case suspect <= b.DoneItems || suspect > b.ItemCount:
		suspect = 0
	}
	again := suspect != 0 && suspect == b.Suspect
	// Deaths in a row without a suspect accuse all open items together; one with a suspect says nothing of the others.
	second := suspect == 0 && b.LoneDeaths > 0
	d.Suspect = suspect
	if suspect == 0 {
		d.LoneDeaths++
	}

	switch {
	case guarded:
		d.Why = fmt.Sprintf("offered to other workers for %v: it died on one worker only", d.Avoid)
	case again && open == 1 && b.DoneItems > 0:
		d.isolate(b, suspect, again)
	case again && open == 1:
		d.State, d.Undone = BatchCrashed, ItemCrashed
		d.Why = fmt.Sprintf("the item at position %d of the batch killed its worker again: it is the culprit", suspect)
	case suspect == 0 && !second:
		d.Why = "tried again: its first death"
	case suspect != 0 && open == 1:
		d.Why = fmt.Sprintf("tried again: the first death of the item at position %d of the batch", suspect)
	case death.Splits >= p.Splits():
		d.State, d.Undone = BatchFailed, ItemFailed
		d.Why = fmt.Sprintf("not split: the job has split %d batches, max_splits allows %d", death.Splits, p.Splits())
	case suspect != 0:
		d.isolate(b, suspect, again)
	default:
		d.halve(b)
	}
}

// isolate splits a batch around one item: done · before · the suspect alone · after. Nothing accuses the others. The
// suspect is the culprit when it died again; so a batch that crashed is always one item.
func (d *Decision) isolate(b *Batch, suspect int32, again bool) {
	d.State = BatchSplit
	rest := Suspicion{DiedOn: "", Solo: d.Solo}
	d.done(b)
	d.part(b.DoneItems, suspect-1-b.DoneItems, BatchPending, rest)
	if again {
		d.part(suspect-1, 1, BatchCrashed, Suspicion{Suspect: 1, DiedOn: d.DiedOn, Solo: d.Solo})
		d.Why = fmt.Sprintf("the item at position %d of the batch killed its worker again: it is the culprit", suspect)
	} else {
		d.part(suspect-1, 1, BatchPending, Suspicion{Suspect: 1, DiedOn: d.DiedOn, Solo: d.Solo})
		d.Why = fmt.Sprintf("split around the item at position %d of the batch, which the process had at hand", suspect)
	}
	d.part(suspect, b.ItemCount-suspect, BatchPending, rest)
	d.Suspicion = Suspicion{Suspect: suspect, DiedOn: d.DiedOn, Solo: d.Solo}
}

// halve splits a batch that died again, nobody knows by which item: done · two halves. One of them is guilty.
func (d *Decision) halve(b *Batch) {
	d.State = BatchSplit
	open := b.ItemCount - b.DoneItems
	d.done(b)
	half := Suspicion{LoneDeaths: d.LoneDeaths, DiedOn: d.DiedOn, Solo: d.Solo}
	d.part(b.DoneItems, open/2, BatchPending, half)
	d.part(b.DoneItems+open/2, open-open/2, BatchPending, half)
	d.Why = fmt.Sprintf("split into halves: it died %d times", d.LoneDeaths)
}

func (d *Decision) done(b *Batch) { d.part(0, b.DoneItems, BatchCompleted, Suspicion{}) }

func (d *Decision) part(first, items int32, state BatchState, s Suspicion) {
	if items > 0 {
		d.Parts = append(d.Parts, Part{first, items, state, s})
	}
}

// PartCrashes returns the crashes that a part of a split batch begins with: those of the batch, unless nothing accuses it.
func (d *Decision) PartCrashes(p Part) int32 {
	if p.DiedOn == "" {
		return 0
	}
	return d.Crashes
}

// Unreadable makes of a decision that needs the batch's items one that does without, since they cannot be read.
func (d *Decision) Unreadable(err error) {
	d.State, d.Undone, d.Parts = BatchFailed, ItemFailed, nil
	d.Why = fmt.Sprintf("not split: %v", err)
}
