// Package pgtest gives tests a real PostgreSQL: a database of its own for each test, and servers that a test may stop,
// freeze and start again.
//
// [DSN] is what most tests want. The first call of a test process finds a server; each call then clones a database from a
// template that was migrated once, and drops it when its test ends:
//
//	TALLYMAN_TEST_POSTGRES set      that server (a DSN whose role may create databases)
//	otherwise                       a private cluster, started from installed binaries, which ends with the process
//
// [StartServer] and [Start] give a private cluster with a handle on it. Private clusters listen on a Unix socket and on a
// free loopback port, run with fsync on, and are owned by a supervisor process that holds a pipe from the process that
// started them: however that process ends, kill -9 included, the pipe closes, the supervisor stops the server and
// removes its files. PostgreSQL refuses to run as root, so root drops to the user postgres, or nobody, for it.
//
// Binaries are looked for in the folder TALLYMAN_POSTGRES_BIN if it is set; else, the newest version of all, by
// pg_config on the PATH, in the usual folders, and in .cache/postgres of the repository, where tools/postgres.sh unpacks
// them. TALLYMAN_PG_SEARCH=none turns the search of the system off, as if it had none.
//
// Nothing here ever skips a test: without a server the test fails and says what to do. Unix only.
package pgtest
