package job

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"time"
)

// Counters are the numbers of a job. Items.Total = Σ Outcomes + OpenItems always; the items in flight are part of the
// open ones.
type Counters struct {
	ItemsTotal    int64
	ItemsInFlight int64              // undone items of running batches
	ItemOutcomes  [outcomes]int64    // indexed by Outcome
	Batches       [batchStates]int64 // indexed by BatchState
	Annotations   int64              // weight of what was cut into batches, in annotations
	BytesRead     int64              // bytes of the upload that lie in committed groups
	Errors        int64              // findings
	Warnings      int64              // findings
	CrashedEver   int64              // batches with at least one crashed attempt since they were cut, or last retried by hand
}

// ItemsEnded is the number of items that have their outcome.
func (c *Counters) ItemsEnded() int64 {
	var n int64
	for _, v := range c.ItemOutcomes {
		n += v
	}
	return n
}

// ItemsOpen is the number of items without an outcome.
func (c *Counters) ItemsOpen() int64 { return c.ItemsTotal - c.ItemsEnded() }

// BatchesTotal is the number of batches, without those that were split into others.
func (c *Counters) BatchesTotal() int64 {
	var n int64
	for _, v := range c.Batches[:BatchSplit] {
		n += v
	}
	return n
}

// BatchesOpen is the number of pending and running batches.
func (c *Counters) BatchesOpen() int64 { return c.Batches[BatchPending] + c.Batches[BatchRunning] }

// Move counts a batch from one state to another.
func (c *Counters) Move(from, to BatchState) {
	c.Batches[from]--
	c.Batches[to]++
}

// AddRuns counts the outcomes of runs.
func (c *Counters) AddRuns(runs []Run) {
	for _, r := range runs {
		c.ItemOutcomes[r.Outcome] += int64(r.Count)
	}
}

func (c *Counters) fields() []*int64 {
	f := []*int64{
		&c.ItemsTotal, &c.ItemsInFlight, &c.Annotations, &c.BytesRead, &c.Errors, &c.Warnings, &c.CrashedEver,
	}
	for i := range c.ItemOutcomes {
		f = append(f, &c.ItemOutcomes[i])
	}
	for i := range c.Batches[:BatchSplit] {
		f = append(f, &c.Batches[i])
	}
	return f
}

// Add adds o to c.
func (c *Counters) Add(o *Counters) {
	of := o.fields()
	for i, f := range c.fields() {
		*f += *of[i]
	}
	c.Batches[BatchSplit] += o.Batches[BatchSplit]
}

// Settled is one batch that ended or was tried, as the statistics need it.
type Settled struct {
	BatchID  int64
	Duration time.Duration // from the claim to the end of its last attempt
}

// slowestKept bounds the slowest batches kept of a job.
const slowestKept = 20

// Delta is what one transaction changed of a job: counters to add, and the ended batches for the statistics. A row of
// it is written by the transaction that makes the change, and folded into the job later.
type Delta struct {
	Counters
	Ended     [batchStates]int64 // batches that ended, by state
	Crashed   int64              // of those, without the cancelled ones, with at least one crashed (not lost) attempt
	Acquitted int64              // of those counted as Crashed, now or before: whose deaths were their worker's fault
	Durations Histogram
	Slowest   []Settled // at most slowestKept, slowest first

	IngestDone int64 // above 0: the upload is complete, and what it brought is in this delta and those before

	Fault Fault // the first item that ended otherwise than a strict job allows
}

// Fault is an item whose outcome a strict job does not allow. The zero value is none.
type Fault struct {
	Item     int64 // its number in the upload, if no item before it in its batch's stretch was rejected at ingest
	BatchID  int64 // 0 when ingest rejected it, and then the number is right
	Position int64 // in the batch, from 0
	Outcome  int64
}

// before reports whether f is to be told rather than other. Of two with the same number, that of a batch is off by the
// items that ingest rejected.
func (f Fault) before(other Fault) bool {
	if f.Item == 0 || other.Item == 0 {
		return f.Item != 0
	}
	if f.Item != other.Item {
		return f.Item < other.Item
	}
	return f.BatchID < other.BatchID
}

// Done counts the outcomes of items of a batch from a position on. first is the number of the batch's first item.
func (d *Delta) Done(batch, first int64, position int32, runs []Run) {
	d.AddRuns(runs)
	for _, r := range runs {
		if !r.Outcome.Good() && r.Outcome != ItemCancelled {
			d.fault(Fault{first + int64(position), batch, int64(position), int64(r.Outcome)})
			return
		}
		position += r.Count
	}
}

// Reject counts items that ingest rejected, from number first on.
func (d *Delta) Reject(first int64, items int32) {
	d.ItemsTotal += int64(items)
	d.ItemOutcomes[Rejected] += int64(items)
	d.fault(Fault{Item: first, Outcome: int64(Rejected)})
}

func (d *Delta) fault(f Fault) {
	if f.before(d.Fault) {
		d.Fault = f
	}
}

// End counts a batch that ended in state after took: one that ingest cut, since its parts share its fate. One that was
// split crashed.
func (d *Delta) End(batch int64, state BatchState, crashed bool, took time.Duration) {
	if state == BatchSplit {
		state = BatchCrashed
	}
	d.Ended[state]++
	if state == BatchCancelled {
		return // nobody knows how it would have gone
	}
	if crashed {
		d.Crashed++
	}
	d.Durations.Observe(took)
	d.Slowest = addSlowest(d.Slowest, Settled{batch, took})
}

// CrashRate is the share of batches that ended, by state, of which at least one attempt died with its worker. Cancelled ones are
// counted in neither.
func CrashRate(ended []int64, crashed int64) float64 {
	settled := -ended[BatchCancelled]
	for _, n := range ended {
		settled += n
	}
	if settled <= 0 {
		return 0
	}
	return float64(crashed) / float64(settled)
}

// Merge adds o to d.
func (d *Delta) Merge(o *Delta) {
	d.Add(&o.Counters)
	for i := range d.Ended {
		d.Ended[i] += o.Ended[i]
	}
	d.Crashed += o.Crashed
	d.Acquitted += o.Acquitted
	d.Durations.Merge(&o.Durations)
	d.IngestDone += o.IngestDone
	d.fault(o.Fault)
	d.Slowest = MergeSlowest(d.Slowest, o.Slowest)
}

// addSlowest is MergeSlowest of one more, which is done at the end of every batch.
func addSlowest(list []Settled, s Settled) []Settled {
	n := len(list)
	if n == slowestKept && slower(list[n-1], s) <= 0 {
		return list
	}
	if slices.ContainsFunc(list, func(o Settled) bool { return o.BatchID == s.BatchID }) {
		return MergeSlowest(list, []Settled{s})
	}
	at, _ := slices.BinarySearchFunc(list, s, slower)
	list = slices.Insert(list, at, s)
	return list[:min(len(list), slowestKept)]
}

// slower orders the slowest first.
func slower(a, b Settled) int {
	return cmp.Or(cmp.Compare(b.Duration, a.Duration), cmp.Compare(a.BatchID, b.BatchID))
}

// MergeSlowest returns the slowest of both, each batch once, slowest first, at most as many as are kept for a job.
func MergeSlowest(a, b []Settled) []Settled {
	all := append(append(make([]Settled, 0, len(a)+len(b)), a...), b...)
	slices.SortFunc(all, slower)
	seen := make(map[int64]bool, len(all))
	kept := all[:0]
	for _, s := range all {
		if !seen[s.BatchID] && len(kept) < slowestKept {
			seen[s.BatchID] = true
			kept = append(kept, s)
		}
	}
	return kept
}

// Histogram counts durations in buckets that grow by the square root of two from 1 ms: a quantile read from it is
// exact to about 20 %.
type Histogram struct {
	Sum    time.Duration
	Counts [64]int64
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	h.Sum += d
	h.Counts[bucket(d)]++
}

// Merge adds o to h.
func (h *Histogram) Merge(o *Histogram) {
	h.Sum += o.Sum
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
}

// Count returns the number of durations observed.
func (h *Histogram) Count() int64 {
	var n int64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Mean returns the average, 0 for an empty histogram.
func (h *Histogram) Mean() time.Duration {
	if n := h.Count(); n > 0 {
		return h.Sum / time.Duration(n)
	}
	return 0
}

// Quantile returns the upper bound of the bucket in which the q-th (0 to 1) duration lies, 0 for an empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	n := h.Count()
	if n == 0 {
		return 0
	}
	rank := int64(q*float64(n-1)) + 1
	for i, c := range h.Counts {
		if rank -= c; rank <= 0 {
			return bucketBound(i)
		}
	}
	return bucketBound(len(h.Counts) - 1)
}

// bucket: 0 holds everything under 1 ms; 2k+1 and 2k+2 the two halves (on a logarithmic scale) of [2^k, 2^(k+1)) ms.
func bucket(d time.Duration) int {
	ms := d.Milliseconds()
	if ms < 1 {
		return 0
	}
	k := bits.Len64(uint64(ms)) - 1
	b := 2*k + 1
	// 1.5 stands for the square root of two: exact in integers, and as good for a quantile.
	if 2*ms >= 3<<k {
		b++
	}
	return min(b, len(Histogram{}.Counts)-1)
}

func bucketBound(i int) time.Duration {
	if i == 0 {
		return time.Millisecond
	}
	k := (i - 1) / 2
	ms := int64(1) << k
	if (i-1)%2 == 0 {
		return time.Duration(3*ms) * time.Millisecond / 2
	}
	return time.Duration(2*ms) * time.Millisecond
}

// deltaVersion leads the stored form. A coordinator that meets a form it does not know leaves the row to a newer one.
const deltaVersion = 1

// ErrDelta says that a stored delta is damaged or of a version this program does not know.
var ErrDelta = errors.New("stored delta is damaged or of a newer version")

func (d *Delta) fields() []*int64 {
	f := d.Counters.fields()
	for i := range d.Ended[:BatchSplit] {
		f = append(f, &d.Ended[i])
	}
	f = append(f, &d.Crashed, (*int64)(&d.Durations.Sum))
	for i := range d.Durations.Counts {
		f = append(f, &d.Durations.Counts[i])
	}
	f = append(f, &d.IngestDone, &d.Fault.Item, &d.Fault.BatchID, &d.Fault.Position, &d.Fault.Outcome)
	// Their numbers are kept in the database: what is new comes last.
	return append(f, &d.Batches[BatchSplit], &d.Acquitted)
}

// Append appends the stored form of d to dst: sparse pairs of field number and value.
func (d *Delta) Append(dst []byte) []byte {
	dst = append(dst, deltaVersion)
	for i, f := range d.fields() {
		if *f != 0 {
			dst = binary.AppendUvarint(dst, uint64(i)+1)
			dst = binary.AppendVarint(dst, *f)
		}
	}
	dst = binary.AppendUvarint(dst, 0)
	for _, s := range d.Slowest {
		dst = binary.AppendVarint(dst, s.BatchID)
		dst = binary.AppendVarint(dst, int64(s.Duration))
	}
	return dst
}

// ParseDelta reads the stored form.
func ParseDelta(data []byte) (*Delta, error) {
	if len(data) == 0 || data[0] != deltaVersion {
		return nil, ErrDelta
	}
	data = data[1:]
	d := new(Delta)
	fields := d.fields()
	for {
		i, n := binary.Uvarint(data)
		if n <= 0 || i > uint64(len(fields)) {
			return nil, ErrDelta
		}
		data = data[n:]
		if i == 0 {
			break
		}
		v, n := binary.Varint(data)
		if n <= 0 {
			return nil, ErrDelta
		}
		*fields[i-1] = v
		data = data[n:]
	}
	for len(data) > 0 {
		id, n := binary.Varint(data)
		if n <= 0 {
			return nil, ErrDelta
		}
		took, m := binary.Varint(data[n:])
		if m <= 0 {
			return nil, ErrDelta
		}
		data = data[n+m:]
		d.Slowest = append(d.Slowest, Settled{id, time.Duration(took)})
	}
	return d, nil
}
