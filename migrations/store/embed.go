// Package store holds the schema of the annotation store: numbered goose migrations for each engine, forward only.
package store

import "embed"

// FS holds the migrations as postgres/*.sql and sqlite/*.sql.
//
//go:embed postgres/*.sql sqlite/*.sql
var FS embed.FS

// VersionTable is where goose keeps which migrations a database has. It is not goose's default, so that an annotation
// store may share its database with other tables.
const VersionTable = "store_goose_version"
