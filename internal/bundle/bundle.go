// Package bundle is what client and coordinator agree on about uploads of several files: such an upload is a tar archive
// that begins with a global header of one record. It was made for the upload only, so that its entries go by their own
// names. The content says so, like everything else about how an upload is read.
package bundle

// Record is the key of that record, and Value what it holds.
const (
	Record = "TALLYMAN.bundle"
	Value  = "1"
)
