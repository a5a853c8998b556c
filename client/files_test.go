package client_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
)

// tree makes files in a new folder and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// unpack lists an archive.
func unpack(t *testing.T, archive []byte) []string {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(archive))
	var all []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%c %s %s%s", h.Typeflag, h.Name, h.Linkname, content))
	}
}

func TestFiles(t *testing.T) {
	long := strings.Repeat("long", 30)
	dir := tree(t, map[string]string{
		"b/2.json": "two", "b/10.json": strings.Repeat("x", 512), "b/ä/" + long + ".json": "long", "b.json": "", ".hidden/a": "x", "b/.hidden": "x",
		"skipped/a": "x", "c.jsonl": strings.Repeat("y", 1000),
	})
	if err := os.Symlink("b.json", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	config := client.FilesConfig{
		Paths: []string{filepath.Join(dir, "c.jsonl"), dir + "/b", filepath.Join(dir, "link")},
		Skip:  func(path string, _ fs.FileInfo) bool { return filepath.Base(path) == "10.json" },
	}
	files, err := client.NewFiles(config)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	archive, err := io.ReadAll(files)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"g  ", "0 c.jsonl " + strings.Repeat("y", 1000), "0 b/2.json two", "0 b/ä/" + long + ".json long", "0 link "}
	if diff := cmp.Diff(want[1:], unpack(t, archive)[1:]); diff != "" || files.Count() != 4 {
		t.Errorf("%d files (-want +got):\n%s", files.Count(), diff)
	}

	// A folder is sent whole, links as links.
	whole, err := client.NewFiles(client.FilesConfig{Paths: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	var again bytes.Buffer
	if _, err := io.Copy(&again, iotest.OneByteReader(whole)); err != nil {
		t.Fatal(err)
	}
	base := filepath.Base(dir)
	all := unpack(t, again.Bytes())
	for _, entry := range []string{"2 " + base + "/link b.json", "0 " + base + "/b.json ", "0 " + base + "/b/10.json " + strings.Repeat("x", 512)} {
		if !strings.Contains(strings.Join(all, "\n"), entry) {
			t.Errorf("%q is not among %q", entry, all)
		}
	}
	if strings.Contains(strings.Join(all, "\n"), "hidden") {
		t.Errorf("what is hidden was sent: %q", all)
	}

	// From every place it goes on with the same bytes.
	for _, source := range []struct {
		*client.Files
		bytes []byte
	}{{files, archive}, {whole, again.Bytes()}} {
		if size, err := source.Seek(0, io.SeekEnd); err != nil || size != int64(len(source.bytes)) {
			t.Errorf("size %d, %v; want %d", size, err, len(source.bytes))
		}
		for at := len(source.bytes); at >= 0; at -= 97 {
			if _, err := source.Seek(int64(at), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(source)
			if err != nil || !bytes.Equal(rest, source.bytes[at:]) {
				t.Fatalf("from byte %d: %d bytes, %v; want the last %d", at, len(rest), err, len(source.bytes)-at)
			}
		}
	}
}

func TestFilesRefused(t *testing.T) {
	t.Chdir(tree(t, map[string]string{"a/x.json": "{}", "b/x.json": "{}", "e/.hidden": ""}))
	for said, paths := range map[string][]string{
		"no such file":        {"a", "none"},
		"no files":            {"e"},
		"called a":            {"a", "./a"},
		"which is sent":       {"a", "b", "a/x.json"},
		"be sent alone":       {"a", os.DevNull},
		"would both be calle": {filepath.Join(t.TempDir(), "a"), "a"},
	} {
		if _, err := client.NewFiles(client.FilesConfig{Paths: paths}); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%v: got %v, want an error with %q", paths, err, said)
		}
	}
	files, err := client.NewFiles(client.FilesConfig{Paths: []string{"a/x.json", "b/x.json"}})
	if err != nil {
		t.Fatal(err)
	}
	if archive, err := io.ReadAll(files); err != nil || cmp.Diff([]string{"0 a/x.json {}", "0 b/x.json {}"}, unpack(t, archive)[1:]) != "" {
		t.Errorf("files of one name in two folders: %v", err)
	}
	// What is gone, or is a folder now, is an error. What grows meanwhile is sent as it was.
	if _, err := files.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove("b/x.json"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(files); err == nil {
		t.Error("a file that is gone was sent")
	}
}

// TestUploadOfFilesResumes cuts an upload of files again and again.
func TestUploadOfFilesResumes(t *testing.T) {
	dir := tree(t, map[string]string{"a": strings.Repeat("a", 3000), "b": strings.Repeat("b", 5000), "c": "c"})
	synctest.Test(t, func(t *testing.T) {
		files, err := client.NewFiles(client.FilesConfig{Paths: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		defer files.Close()
		d := &disk{t: t, cuts: []int{1, 0, 3, 1, 5, 2}}
		c := dial(t, &coordinator{upload: d.submit}, client.Config{})
		result, err := c.Upload(t.Context(), files, client.Upload{ID: "u-1", ChunkBytes: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if got := unpack(t, d.committed); len(got) != 4 || result.Size != int64(len(d.committed)) {
			t.Errorf("%d bytes of %d arrived with %d entries", len(d.committed), result.Size, len(got))
		}
	})
}
