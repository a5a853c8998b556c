package align

import (
	"slices"
	"strings"
)

// atCanon returns the segment that a byte of the folded form lies in, which must not be its end.
func (f *folded) atCanon(at int) int {
	i, _ := slices.BinarySearchFunc(f.segments, uint32(at)+1, func(s segment, at uint32) int { return int(int64(s.canon) - int64(at)) })
	return i - 1 // the last that begins at or before it: units of no bytes come before others at the same place
}

// atPoint returns the segment that a code point of the text lies in.
func (f *folded) atPoint(point int) int {
	i, _ := slices.BinarySearchFunc(f.segments, uint32(point)+1, func(s segment, point uint32) int { return int(int64(s.point) - int64(point)) })
	return i - 1
}

// points returns the code points that a stretch of the folded form stands for; what lies partly in it counts. The stretch
// must not be empty.
func (f *folded) points(begin, end int) (int, int) {
	i := f.atCanon(begin)
	s := f.segments[i]
	from := int(s.point)
	if s.each > 0 {
		from += (begin - int(s.canon)) / int(s.each)
	}
	if end > int(f.segments[i+1].canon) {
		i = f.atCanon(end - 1)
	}
	s = f.segments[i]
	if s.each == 0 {
		return from, int(f.segments[i+1].point)
	}
	return from, int(s.point) + (end-1-int(s.canon))/int(s.each) + 1
}

// stretch returns the stretch of the folded form that code points became; it is empty if they became nothing.
func (f *folded) stretch(begin, end int) (int, int) {
	i := f.atPoint(begin)
	s := f.segments[i]
	from := int(s.canon)
	if s.each > 0 {
		from += (begin - int(s.point)) * int(s.each)
	}
	if end > int(f.segments[i+1].point) {
		i = f.atPoint(end - 1)
	}
	s = f.segments[i]
	if s.each == 0 {
		return from, int(f.segments[i+1].canon)
	}
	return from, int(s.canon) + (end-int(s.point))*int(s.each)
}

// visible returns the bytes outside white space of a stretch of the folded form.
func (f *folded) visible(from, to int) int {
	return to - from - f.spacesBefore(to) + f.spacesBefore(from)
}

func (f *folded) spacesBefore(at int) int {
	if at == 0 {
		return 0
	}
	mark := (at - 1) / spacesEach
	return int(f.spaces[mark]) + strings.Count(f.canon[mark*spacesEach:at], " ")
}

// whole reports whether a stretch of the folded form begins and ends where code points do.
func (f *folded) whole(begin, end int) bool { return f.edge(begin) && f.edge(end) }

func (f *folded) edge(at int) bool {
	if at == len(f.canon) {
		return true
	}
	s := f.segments[f.atCanon(at)]
	if s.each == 0 {
		return at == int(s.canon)
	}
	return (at-int(s.canon))%int(s.each) == 0
}

// alike reports whether two stretches of the same length are laid out alike: whether the same bytes of both stand for the
// same code points, counted from the beginning of each.
func (f *folded) alike(a, b, length int) bool {
	if a == b {
		return true
	}
	i, j := f.atCanon(a), f.atCanon(b)
	for done := 0; done < length; {
		x, y := f.segments[i], f.segments[j]
		left := min(int(f.segments[i+1].canon)-a, int(f.segments[j+1].canon)-b)
		n := min(left, length) - done
		switch {
		case x.each != y.each:
			return false
		case x.each == 0 && (f.segments[i+1].point-x.point != f.segments[j+1].point-y.point ||
			int(x.canon)-a != int(y.canon)-b || f.segments[i+1].canon-x.canon != f.segments[j+1].canon-y.canon):
			return false
		}
		done += n
		if int(f.segments[i+1].canon)-a <= done {
			i++
		}
		if int(f.segments[j+1].canon)-b <= done {
			j++
		}
	}
	return true
}
