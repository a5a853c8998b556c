package store

// Results are the results that a worker reports of items of one batch, together with their outcomes. The store keeps the
// frame as it is.
type Results struct {
	Frame []byte // of package payload; empty without any
	Last  int32  // position in the batch of the item that the last of them begins with
}

// New reports whether any of them is of an item whose outcome is recorded only now: when the first done ones had one, and
// those before end have one now. Such a frame is recorded, with what it says of earlier items: that was recorded before,
// and readers pass it over.
func (r Results) New(done, end int32) bool { return len(r.Frame) > 0 && r.Last >= done && r.Last < end }

// ResultFrame is a frame of results as it was recorded. No two frames of a job say something of the same item, apart from
// what lies before From.
type ResultFrame struct {
	Place     int64 // among those of the job, which are in the order of their items
	BatchID   int64
	FirstItem int64 // of the batch
	ItemCount int32 // of the batch
	From      int32 // position in the batch from which on the frame counts
	Frame     []byte
}
