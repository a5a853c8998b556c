package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/store"
)

// SettingMaxOpenUploads is the name of the setting that bounds the uploads a client has open at once.
const SettingMaxOpenUploads = "max-open-uploads"

// defaultMaxOpenUploads is enough for many processes on one host, and keeps the memory of their pipelines bounded.
const defaultMaxOpenUploads = 64

// openUploads counts the uploads that are open here, by caller and upload id: one that is resumed before its broken stream
// has been noticed counts once.
type openUploads struct {
	most int

	mu   sync.Mutex
	open map[string]map[string]int
}

func newOpenUploads(most int) *openUploads {
	if most == 0 {
		most = defaultMaxOpenUploads
	}
	return &openUploads{most: most, open: map[string]map[string]int{}}
}

func (o *openUploads) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, uploads := range o.open {
		n += len(uploads)
	}
	return n
}

// enter counts a stream, until leave is called, or refuses it.
func (o *openUploads) enter(caller, uploadID string) (leave func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	mine := o.open[caller]
	if o.most > 0 && mine[uploadID] == 0 && len(mine) >= o.most {
		refusal := fail(codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_TOO_MANY_UPLOADS,
			"this client has %d uploads open, as many as the coordinator's setting %s permits; wait for one to end, or raise it",
			len(mine), SettingMaxOpenUploads)
		refusal.metadata = map[string]string{"setting": SettingMaxOpenUploads}
		return nil, refusal
	}
	if mine == nil {
		mine = map[string]int{}
		o.open[caller] = mine
	}
	mine[uploadID]++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if mine[uploadID]--; mine[uploadID] > 0 {
			return
		}
		delete(mine, uploadID)
		if len(mine) == 0 {
			delete(o.open, caller)
		}
	}, nil
}

// keepEvery is the most between two notes that an upload's stream stands.
const keepEvery = time.Minute

// keep notes that the upload's stream stands, however slowly it brings anything, so that it is not taken for abandoned. The
// returned context ends when a newer stream has been opened, and when the returned function is called, which waits for the
// last note.
func (s *jobService) keep(parent context.Context, up *store.Upload) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(min(keepEvery, s.cfg.UploadTimeout/4))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			// What else may go wrong the next commit will meet, too.
			if err := s.cfg.Store.KeepUpload(ctx, up.JobID, up.Epoch); errors.Is(err, store.ErrUploadFenced) {
				cancel(err)
			}
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}
