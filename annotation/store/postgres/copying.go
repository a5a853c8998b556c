package postgres

import (
	"context"
	"encoding/binary"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// copying is a query of several statements, some of which are COPY, with the rows of these: all of it is sent without
// waiting for an answer, so that it takes one round trip. Of the ways to insert rows COPY is the one that costs the server
// least: it writes those of a page together.
//
// The server reads the rows when it comes to their statement. One that fails ends the query, and the server passes over
// the rows that are left.
type copying struct {
	statements []string
	rows       []byte // messages of the protocol: of each COPY its rows, and their end
	message    int    // where the message that is being filled begins
}

// The messages of the protocol, and what a COPY in binary format begins and ends with.
const (
	messageHeader = 5 // type, length
	typeCopyData  = 'd'
	copyDone      = "c\x00\x00\x00\x04"
	copyBeginning = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, no extension
	copyEnd       = "\xff\xff"
	copyNull      = "\xff\xff\xff\xff"
)

func (c *copying) statement(sql string) { c.statements = append(c.statements, sql) }

// begin begins the rows of a table, of which each then has the values of these columns, in order.
func (c *copying) begin(table, columns string) {
	c.statement("COPY " + table + " (" + columns + ") FROM STDIN (FORMAT binary)")
	c.message = len(c.rows)
	c.rows = append(c.rows, typeCopyData, 0, 0, 0, 0)
	c.rows = append(c.rows, copyBeginning...)
}

// end ends the rows of a table.
func (c *copying) end() {
	c.rows = append(c.rows, copyEnd...)
	binary.BigEndian.PutUint32(c.rows[c.message+1:], uint32(len(c.rows)-c.message-1))
	c.rows = append(c.rows, copyDone...)
}

// row begins a row.
func (c *copying) row(columns int16) { c.rows = binary.BigEndian.AppendUint16(c.rows, uint16(columns)) }

func (c *copying) null() { c.rows = append(c.rows, copyNull...) }

func (c *copying) bigint(v int64) {
	c.rows = binary.BigEndian.AppendUint64(append(c.rows, 0, 0, 0, 8), uint64(v))
}

func (c *copying) integer(v int) {
	c.rows = binary.BigEndian.AppendUint32(append(c.rows, 0, 0, 0, 4), uint32(v))
}

func (c *copying) smallint(v int) {
	c.rows = binary.BigEndian.AppendUint16(append(c.rows, 0, 0, 0, 2), uint16(v))
}

func (c *copying) boolean(v bool) {
	value := byte(0)
	if v {
		value = 1
	}
	c.rows = append(c.rows, 0, 0, 0, 1, value)
}

// text adds a text, or JSON.
func (c *copying) text(v string) {
	c.rows = append(binary.BigEndian.AppendUint32(c.rows, uint32(len(v))), v...)
}

// optional adds a text, or null if it is empty.
func (c *copying) optional(v string) {
	if v == "" {
		c.null()
		return
	}
	c.text(v)
}

// run sends everything and waits for the end of the last statement, whose command tag it returns. Its error is the first
// one of the server's, or of the connection, which is closed then.
func (c *copying) run(ctx context.Context, conn *pgx.Conn) (tag string, err error) {
	if err := c.send(ctx, conn.PgConn()); err != nil {
		abandon(conn)
		return "", err
	}
	var failed error
	for {
		message, err := conn.PgConn().ReceiveMessage(ctx)
		if err != nil {
			abandon(conn)
			return "", err
		}
		switch message := message.(type) {
		case *pgproto3.ErrorResponse:
			failed = pgconn.ErrorResponseToPgError(message)
		case *pgproto3.CommandComplete:
			tag = string(message.CommandTag)
		case *pgproto3.ReadyForQuery:
			return tag, failed
		}
	}
}

func (c *copying) send(ctx context.Context, conn *pgconn.PgConn) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().SetDeadline(time.Unix(1, 0)) })
	conn.Frontend().SendQuery(&pgproto3.Query{String: strings.Join(c.statements, ";")})
	err := conn.Frontend().SendUnbufferedEncodedCopyData(c.rows)
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// abandon closes a connection on which something is under way, of which the server is told.
func abandon(conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTime)
	defer cancel()
	_ = conn.PgConn().CancelRequest(ctx) // if it cannot be told, it finds out
	_ = conn.Close(ctx)
}
