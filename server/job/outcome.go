package job

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Run is a stretch of consecutive items of a batch that ended alike.
type Run struct {
	Count   int32
	Outcome Outcome
}

// Items returns the number of items that runs cover.
func Items(runs []Run) int32 {
	var n int32
	for _, r := range runs {
		n += r.Count
	}
	return n
}

// SkipItems returns runs without their first n items. It does not change its argument.
func SkipItems(runs []Run, n int32) []Run {
	for len(runs) > 0 && n >= runs[0].Count {
		n -= runs[0].Count
		runs = runs[1:]
	}
	if n > 0 && len(runs) > 0 {
		rest := append([]Run(nil), runs...)
		rest[0].Count -= n
		return rest
	}
	return runs
}

// ValidateRuns refuses runs that a worker may not report: empty ones and outcomes that are not a handler's.
func ValidateRuns(runs []Run) error {
	var total int64
	for i, r := range runs {
		if r.Count < 1 {
			return fmt.Errorf("outcomes[%d] covers %d items, at least 1 is needed", i, r.Count)
		}
		if !r.Outcome.ByHandler() {
			return fmt.Errorf("outcomes[%d] is %v, which a worker does not decide", i, r.Outcome)
		}
		if total += int64(r.Count); total > 1<<30 {
			return fmt.Errorf("outcomes cover more than %d items", 1<<30)
		}
	}
	return nil
}

// AppendRuns appends the stored form of runs to dst: for each, the count as an unsigned varint and the outcome as a
// byte. The concatenation of two stored forms is the stored form of the concatenation, so that a database can append
// what a later report adds without reading what is there.
func AppendRuns(dst []byte, runs []Run) []byte {
	for _, r := range runs {
		dst = binary.AppendUvarint(dst, uint64(r.Count))
		dst = append(dst, byte(r.Outcome))
	}
	return dst
}

var errRuns = errors.New("stored outcomes are damaged")

// ParseRuns reads the stored form. Neighbors with one outcome are joined.
func ParseRuns(data []byte) ([]Run, error) {
	var runs []Run
	for len(data) > 0 {
		count, n := binary.Uvarint(data)
		if n <= 0 || n >= len(data) || count == 0 || count > 1<<30 {
			return nil, errRuns
		}
		o := Outcome(data[n])
		if !o.Valid() {
			return nil, errRuns
		}
		data = data[n+1:]
		if k := len(runs) - 1; k >= 0 && runs[k].Outcome == o {
			runs[k].Count += int32(count)
			continue
		}
		runs = append(runs, Run{Count: int32(count), Outcome: o})
	}
	return runs, nil
}
