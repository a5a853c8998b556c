package ingest

import (
	"errors"
	"fmt"
)

// Severity says what a finding does to its item.
type Severity string

// The severities. An error rejects its item.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// The codes of findings that this package makes. They are stable: people filter by them.
const (
	CodeNotJSON          = "NOT_JSON"          // the file is something else
	CodeUnreadable       = "UNREADABLE"        // the rest of a file is damaged so that its values cannot be told apart
	CodeTruncated        = "TRUNCATED"         // the compressed stream ends early
	CodeCorrupt          = "CORRUPT"           // the compressed stream is damaged
	CodeTooLarge         = "TOO_LARGE"         // more than SettingMaxBytes
	CodeExpansionRatio   = "EXPANSION_RATIO"   // expands more than SettingMaxRatio
	CodeCompressionDepth = "COMPRESSION_DEPTH" // compressed more often than SettingMaxDepth
	CodeWindowTooLarge   = "WINDOW_TOO_LARGE"  // a zstd window above SettingMaxWindow
	CodeItemTooLarge     = "ITEM_TOO_LARGE"    // an item above SettingMaxItem
	CodeUnsafeEntry      = "UNSAFE_ENTRY"      // an entry of an archive whose name leads out of it, or a link, or a device
	CodeUnsupportedEntry = "UNSUPPORTED_ENTRY" // an entry that is stored in a way that is not read
	CodeEncrypted        = "ENCRYPTED"         // an entry that needs a password
	CodeArchiveDepth     = "ARCHIVE_DEPTH"     // archives in archives beyond SettingMaxArchives
	CodeTooManyEntries   = "TOO_MANY_ENTRIES"  // in archives, more than SettingMaxEntries or SettingMaxDirectory
	CodeSpoolFull        = "SPOOL_FULL"        // a ZIP archive above SettingMaxSpool
)

// ErrUploadChanged is wrapped by errors that say that a resumed upload does not begin with the bytes that were committed.
var ErrUploadChanged = errors.New("upload changed since it was interrupted")

// Finding is an error or a warning about an item, or about a file when Item is 0, with its exact place.
type Finding struct {
	Code     string
	Severity Severity
	File     string
	Line     int64 // from 1
	Item     int64 // number in the upload from 1; 0 when the finding is about the file
	Offset   int64 // in bytes from the start of the decompressed file
	Document string
	Path     string // JSON path of the entry, "denotations[3].span.end"; "" for the item as a whole
	Message  string
}

// FormatError says that a file cannot be read further, where, and why.
type FormatError struct {
	Code   string
	File   string
	Line   int64 // line that is not complete because of it, from 1
	Offset int64 // in bytes, in the decompressed file
	// CompressedOffset is about how many bytes of the upload had been decompressed; equal to Offset when it is not
	// compressed.
	CompressedOffset int64
	// Found names what was found: "a PDF" in place of JSON, "gzip" where that is damaged; "" where a limit was met.
	Found   string
	Message string
	cause   error
	fatal   bool // it ends the upload wherever it is met
	// level is how many archives are open around the stream that cannot be read further; at 0 it is the upload itself.
	level int
}

// Error gives the place and the message.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: line %d, byte %d: %s", e.File, e.Line, e.Offset, e.Message)
}

// Unwrap returns the decompressor's error where there is one.
func (e *FormatError) Unwrap() error { return e.cause }

// Finding returns the error as a finding about the file.
func (e *FormatError) Finding() Finding {
	return Finding{
		Code:     e.Code,
		Severity: SeverityError,
		File:     e.File,
		Line:     e.Line,
		Offset:   e.Offset,
		Message:  e.Message,
	}
}
