package ingest

import "fmt"

// The names of the settings that bound what a Reader takes, as its errors give them.
const (
	SettingMaxItem   = "max-item-bytes"
	SettingMaxBytes  = "max-upload-bytes"
	SettingMaxRatio  = "max-expansion-ratio"
	SettingMaxDepth  = "max-compression-depth"
	SettingMaxWindow = "max-zstd-window-bytes"

	SettingMaxArchives  = "max-archive-depth"
	SettingMaxEntries   = "max-archive-entries"
	SettingMaxDirectory = "max-zip-directory-bytes"
	SettingMaxSpool     = "max-spool-bytes"
)

// DefaultMaxBytes is the default of ReaderConfig.MaxBytes.
const DefaultMaxBytes = 1 << 40

// ReaderConfig configures a Reader. Zero limits mean the defaults.
type ReaderConfig struct {
	File     string // name of the file, as items and errors give it
	MaxItem  int64  // longest item kept whole, in bytes; default 64 MiB
	MaxBytes int64  // longest upload, in bytes after decompression and of all files of an archive; default 1 TiB
	MaxRatio int64  // decompressed bytes for each byte of the upload, beyond the first 64 MiB; default 250
	MaxDepth int    // layers of compression of a file; default 2
	// MaxWindow is the largest window of a zstd stream, in bytes, which is memory. Default 128 MiB, that of zstd itself.
	MaxWindow int64

	MaxArchives  int   // archives one in another; default 8
	MaxEntries   int64 // of all archives of the upload; default 10,000,000
	MaxDirectory int64 // of a ZIP archive, in bytes; it is held in memory, in some times as many. Default 16 MiB
	// MaxSpool is how many bytes of ZIP archives, which can be read from a file only, are in temporary files at a time.
	// Default 8 GiB.
	MaxSpool int64
	SpoolDir string // folder of these files, which are gone with the Reader; default that of the system

	// Objects says that only objects are items, so that in a file of arrays, one a line, the items are their elements.
	Objects bool

	// Resume is the position at which to go on. The source of an upload of encoding Plain begins with the byte at
	// Resume.Offset; that of any other with its first byte, and what was committed is skipped.
	Resume Position
}

// Validate reports the first setting that makes no sense.
func (c ReaderConfig) Validate() error {
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{SettingMaxItem, c.MaxItem},
		{SettingMaxBytes, c.MaxBytes},
		{SettingMaxRatio, c.MaxRatio},
		{SettingMaxDepth, int64(c.MaxDepth)},
		{SettingMaxWindow, c.MaxWindow},
		{SettingMaxArchives, int64(c.MaxArchives)},
		{SettingMaxEntries, c.MaxEntries},
		{SettingMaxDirectory, c.MaxDirectory},
		{SettingMaxSpool, c.MaxSpool},
	} {
		if limit.value < 0 {
			return fmt.Errorf("%s is %d, must not be negative", limit.name, limit.value)
		}
	}
	if 0 < c.MaxWindow && c.MaxWindow < 1<<10 {
		return fmt.Errorf("%s is %d, must be at least 1024", SettingMaxWindow, c.MaxWindow)
	}
	if c.MaxItem > maxItemBytes {
		return fmt.Errorf("%s is %d, must be at most %d", SettingMaxItem, c.MaxItem, maxItemBytes)
	}
	if c.Resume.Offset < 0 || c.Resume.Line < 0 || c.Resume.Item < 0 {
		return fmt.Errorf("position to resume at is negative: %d bytes, %d lines, %d items",
			c.Resume.Offset, c.Resume.Line, c.Resume.Item)
	}
	return nil
}

func (c ReaderConfig) withDefaults() ReaderConfig {
	if c.MaxItem == 0 {
		c.MaxItem = 64 << 20
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.MaxRatio == 0 {
		c.MaxRatio = 250
	}
	if c.MaxDepth == 0 {
		c.MaxDepth = 2
	}
	if c.MaxWindow == 0 {
		c.MaxWindow = 128 << 20
	}
	if c.MaxArchives == 0 {
		c.MaxArchives = 8
	}
	if c.MaxEntries == 0 {
		c.MaxEntries = 10_000_000
	}
	if c.MaxDirectory == 0 {
		c.MaxDirectory = 16 << 20
	}
	if c.MaxSpool == 0 {
		c.MaxSpool = 8 << 30
	}
	return c
}
