package process

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// fingerprintLines is how many lines at the end of standard error count: the message, and where it comes from.
const fingerprintLines = 5

var (
	quoted  = regexp.MustCompile(`'[^']*'|"[^"]*"|` + "`[^`]*`")
	numbers = regexp.MustCompile(`(?i)\b0x[0-9a-f]+\b|\b[0-9a-f]*[0-9][0-9a-f]{7,}\b|[0-9]+`)
	folders = regexp.MustCompile(`(?:/[^\s/:"'<>()]+)+/`)
)

// fingerprint returns what like crashes have in common, as a few hexadecimal digits: how the process died and the last
// lines that it wrote about it, without what differs from one process or item to the next: numbers, addresses, quotations
// and the folders of files.
func fingerprint(how, stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	lines = lines[max(len(lines)-fingerprintLines, 0):]
	for i, line := range lines {
		line = folders.ReplaceAllString(line, "/")
		if !strings.HasPrefix(line, "File ") { // of a traceback, which quotes what matters
			line = quoted.ReplaceAllString(line, "''")
		}
		lines[i] = numbers.ReplaceAllString(line, "#")
	}
	sum := sha256.Sum256([]byte(how + "\n" + strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:6])
}
