package ingest

import "bytes"

const (
	// sniffHead is how much of a file's beginning tells what it is: the header of a tar archive.
	sniffHead = 512

	// sniffAhead is how much is read behind the first line when that line alone does not tell, in bytes.
	sniffAhead = 64 << 10
)

// kind is a type of file that holds no items. Its name fits behind "this looks like".
type kind struct {
	name string
	// hint says what to do about it; "" where nothing sensible can be said.
	hint string
}

var (
	utf16Text  = kind{"UTF-16 text", "convert it to UTF-8: iconv -t UTF-8"}
	utf32Text  = kind{"UTF-32 text", "convert it to UTF-8: iconv -t UTF-8"}
	binaryData = kind{"binary data", ""}
	plainText  = kind{"plain text", ""}
)

// magics tell file types by fixed bytes.
var magics = []struct {
	offset int
	bytes  string
	kind   kind
}{
	{0, "%PDF-", kind{"a PDF", ""}},
	{0, "\x89PNG\r\n\x1a\n", kind{"a PNG image", ""}},
	{0, "\xff\xd8\xff", kind{"a JPEG image", ""}},
	{0, "GIF87a", kind{"a GIF image", ""}},
	{0, "GIF89a", kind{"a GIF image", ""}},
	{0, "II*\x00", kind{"a TIFF image", ""}},
	{0, "MM\x00*", kind{"a TIFF image", ""}},
	{0, "\x7fELF", kind{"an ELF program", ""}},
	{0, "\xcf\xfa\xed\xfe", kind{"a Mach-O program", ""}},
	{0, "BZh", kind{"a bzip2 file", "decompress it, or use gzip or zstd"}},
	{0, "\xfd7zXZ\x00", kind{"an xz file", "decompress it, or use gzip or zstd"}},
	{0, "\x04\x22\x4d\x18", kind{"an lz4 file", "decompress it, or use gzip or zstd"}},
	{0, "7z\xbc\xaf\x27\x1c", kind{"a 7-Zip archive", "unpack it"}},
	{0, "Rar!\x1a\x07", kind{"a RAR archive", "unpack it"}},
	{0, "SQLite format 3\x00", kind{"an SQLite database", ""}},
	{0, "PAR1", kind{"a Parquet file", ""}},
	{0, "Obj\x01", kind{"an Avro file", ""}},
	{0, "\x89HDF\r\n\x1a\n", kind{"an HDF5 file", ""}},
	{0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", kind{"an old Microsoft Office document", ""}},
	{0, `{\rtf`, kind{"an RTF document", ""}},
	{0, "%!PS", kind{"a PostScript document", ""}},
	{0, "\x00\x00\xfe\xff", utf32Text},
	{0, "\xff\xfe\x00\x00", utf32Text},
	{0, "\xff\xfe", utf16Text},
	{0, "\xfe\xff", utf16Text},
}

// sniffMagic tells a file by its first sniffHead bytes, if they are those of a type that is surely not text in UTF-8.
func sniffMagic(head []byte) (kind, bool) {
	for _, m := range magics {
		if len(head) >= m.offset && bytes.HasPrefix(head[m.offset:], []byte(m.bytes)) {
			return m.kind, true
		}
	}
	// ASCII in two bytes a character, without a byte order mark.
	if n := min(len(head), 16) &^ 1; n >= 4 {
		little, big := true, true
		for i := 0; i < n; i += 2 {
			little = little && head[i] != 0 && head[i+1] == 0
			big = big && head[i] == 0 && head[i+1] != 0
		}
		if little || big {
			return utf16Text, true
		}
	}
	return kind{}, false
}

// headDecided reports whether no more bytes are needed to exclude every magic.
func headDecided(head []byte) bool {
	if len(head) >= sniffHead {
		return true
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte(byteOrderMark)), jsonSpace)
	return len(text) >= 4 && (text[0] == '{' || text[0] == '[') && text[1] != '\\' && text[1] != 0
}

// sniffText tells what a text is that is not JSON, by its first line and the next.
func sniffText(line, next []byte) kind {
	head := line[:min(len(line), sniffHead)]
	lower := bytes.ToLower(head)
	switch {
	case bytes.HasPrefix(lower, []byte("<!doctype html")), bytes.HasPrefix(lower, []byte("<html")):
		return kind{"an HTML page", ""}
	case bytes.HasPrefix(lower, []byte("<?xml")), len(head) > 1 && head[0] == '<' && (head[1] == '!' || isLetter(head[1])):
		return kind{"XML", ""}
	}
	for _, c := range head {
		if c < ' ' && c != '\t' && c != '\f' && c != 0x1b {
			return binaryData
		}
	}
	for _, sep := range []struct {
		char string
		kind kind
	}{{"\t", kind{"a TSV table", ""}}, {",", kind{"a CSV table", ""}}, {";", kind{"a CSV table", ""}}} {
		n := bytes.Count(line, []byte(sep.char))
		if n > 0 && (len(next) == 0 || n == bytes.Count(next, []byte(sep.char))) {
			return sep.kind
		}
	}
	return plainText
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
