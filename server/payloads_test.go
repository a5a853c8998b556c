package server

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func TestPayloadsThatAreLargeAreReadApart(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("large")
		h.Policy.BatchItems = 1
		noise := make([]byte, 0, 2<<20)
		for i := uint64(1); len(noise) < 2<<20; i++ {
			noise = fmt.Appendf(noise, "%016x", i*0x9e3779b97f4a7c15*i)
		}
		item := append(append([]byte(`"`), noise...), '"', '\n')
		u := c.open(c.ctx, h)
		for range 4 {
			for part := range slices.Chunk(item, pb.MaxChunk) {
				u.chunk(part)
			}
		}
		u.end()
		session := c.register("w")
		along, apart := 0, 0
		for _, g := range c.claim(session, "r", 4) {
			frame := g.GetPayload()
			along += len(frame)
			if len(frame) == 0 {
				apart++
				frame = c.read(session, g.GetBatchId(), g.GetAttempt())
			}
			items, err := payload.Decode(frame, 64<<20)
			c.must(err)
			if len(items) != 1 || !bytes.Equal(items[0].Data, item[:len(item)-1]) {
				t.Errorf("batch %d does not hold what was sent", g.GetBatchId())
			}
			stream, err := c.workers.ReadBatch(c.ctx, &pb.ReadBatchRequest{SessionId: session, BatchId: g.GetBatchId(), Attempt: g.GetAttempt() + 1})
			c.must(err)
			_, err = stream.Recv()
			c.wantError("a lease of somebody else", err, codes.FailedPrecondition, "LEASE_LOST")
		}
		if apart == 0 || along > 3<<20 {
			t.Errorf("%d bytes rode along and %d batches did not, want at most 3 MiB", along, apart)
		}
	})
}

func (c *coordinator) read(session, batch int64, attempt int32) (frame []byte) {
	c.t.Helper()
	stream, err := c.workers.ReadBatch(c.ctx, &pb.ReadBatchRequest{SessionId: session, BatchId: batch, Attempt: attempt})
	c.must(err)
	for {
		m, err := stream.Recv()
		if err != nil {
			return frame
		}
		frame = append(frame, m.GetData()...)
	}
}
