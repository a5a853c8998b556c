// Package folder is the data folder: where one host keeps the embedded database, and where the processes of one user
// find each other. Whoever serves the folder holds its lock for as long as it lives; the operating system gives the lock
// back whatever ends the process. Beside the lock it writes who it is and where it listens.
package folder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	lockName   = "lock"
	holderName = "server.json"

	// maxHolder bounds what is read of the holder's description, in bytes.
	maxHolder = 4 << 10

	pollInterval = 50 * time.Millisecond
)

// Database is the name of the coordinator's database, Annotations that of the annotation store.
const (
	Database    = "tallyman.db"
	Annotations = "annotations.db"
)

// Holder is the process that has the lock.
type Holder struct {
	PID     int    `json:"pid"`
	Address string `json:"address,omitempty"` // where it listens; empty while it does not, or when it never will
}

// HeldError says that another process has the lock.
type HeldError struct {
	Dir    string
	Holder Holder
}

// Error names the folder, the process and, where there is one, its address.
func (e *HeldError) Error() string {
	who := fmt.Sprintf("process %d", e.Holder.PID)
	if e.Holder.PID == 0 {
		who = "another process"
	}
	if e.Holder.Address != "" {
		who += ", which serves it at " + e.Holder.Address
	}
	return fmt.Sprintf("the data folder %s is in use by %s", e.Dir, who)
}

// DSN returns the data source name of a database in dir.
func DSN(dir, name string) string { return "sqlite:" + filepath.Join(dir, name) }

// Exists reports whether there is a coordinator's database in dir.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, Database))
	return err == nil
}

// Lock is the exclusive use of a data folder.
type Lock struct {
	dir  string
	file *os.File
}

// Acquire makes the folder where needed and takes its lock. While another process holds it and does not listen, as a
// command that only looks something up, it waits, for at most the given time; otherwise it returns a *HeldError at
// once.
func Acquire(ctx context.Context, dir string, wait time.Duration) (*Lock, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errWaited)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		lock, err := tryAcquire(dir)
		held, isHeld := errors.AsType[*HeldError](err)
		if !isHeld || held.Holder.Address != "" {
			return lock, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errWaited) {
				return nil, fmt.Errorf("lock %s: %w", dir, cause)
			}
			return nil, held
		}
	}
}

var errWaited = errors.New("waited long enough")

func tryAcquire(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	taken, err := lockFile(file)
	if err != nil || !taken {
		err = errors.Join(err, file.Close())
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		return nil, &HeldError{Dir: dir, Holder: holder(dir)}
	}
	lock := &Lock{dir: dir, file: file}
	// What an earlier holder wrote is not true any more.
	err = lock.Publish("")
	if errors.Is(err, syscall.ENOSPC) {
		err = lock.forget() // who looks something up on a full disk need not be known by name
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return lock, nil
}

// forget removes what is written about the holder.
func (l *Lock) forget() error {
	name := filepath.Join(l.dir, holderName)
	for _, name := range []string{name, name + ".new"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove who served the data folder: %w", err)
		}
	}
	return nil
}

// Publish says where the holder listens, so that other processes come to it.
func (l *Lock) Publish(address string) error {
	text, err := json.Marshal(Holder{PID: os.Getpid(), Address: address})
	if err != nil {
		return fmt.Errorf("describe the server: %w", err)
	}
	// Renamed into place, so that nobody reads half of it.
	name := filepath.Join(l.dir, holderName)
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o640); err != nil {
		return fmt.Errorf("write who serves the data folder: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write who serves the data folder: %w", err)
	}
	return nil
}

// Release gives the folder to others. Nothing in it may be in use any more.
func (l *Lock) Release() error {
	if err := errors.Join(l.forget(), l.file.Close()); err != nil {
		return fmt.Errorf("release the data folder: %w", err)
	}
	return nil
}

// holder returns what is known of the process that has the lock; nothing, where it has not said yet.
func holder(dir string) Holder {
	var h Holder
	file, err := os.Open(filepath.Join(dir, holderName))
	if err != nil {
		return h
	}
	defer file.Close()
	text := make([]byte, maxHolder)
	n, err := file.Read(text)
	if err != nil || json.Unmarshal(text[:n], &h) != nil {
		return Holder{}
	}
	return h
}
