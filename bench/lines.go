package bench

import "io"

// newLines returns a JSON Lines file of so many empty objects, which is made as it is read.
func newLines(n int64) io.Reader { return io.LimitReader(&lines{}, 3*n) }

type lines struct{ at int }

// Read implements io.Reader.
func (l *lines) Read(p []byte) (int, error) {
	const line = "{}\n"
	for i := range p {
		p[i] = line[l.at]
		l.at = (l.at + 1) % len(line)
	}
	return len(p), nil
}
