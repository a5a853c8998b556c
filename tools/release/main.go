// Command release writes a folder as a ZIP archive that is the same however often it is written: entries by their names, all
// of one time. Usage: release ARCHIVE PARENT FOLDER, with SOURCE_DATE_EPOCH in seconds since 1970.
package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: release ARCHIVE PARENT FOLDER")
		os.Exit(64)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func write(archive, parent, folder string) (err error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	file, err := os.Create(archive)
	if err != nil {
		return fmt.Errorf("create archive: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := zip.NewWriter(file)
	defer func() { err = errors.Join(err, w.Close()) }()
	files := os.DirFS(parent)
	return fs.WalkDir(files, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Unix(seconds, 0).UTC()}
		header.SetMode(0o644)
		if path.Ext(name) == ".exe" {
			header.SetMode(0o755)
		}
		return add(w, header, files)
	})
}

func add(w *zip.Writer, header *zip.FileHeader, files fs.FS) (err error) {
	from, err := files.Open(header.Name)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := w.CreateHeader(header)
	if err != nil {
		return fmt.Errorf("add %s: %w", header.Name, err)
	}
	if _, err := io.Copy(to, from); err != nil {
		return fmt.Errorf("add %s: %w", header.Name, err)
	}
	return nil
}
