package store

// Tables returns the tables that hold what was stored, on every engine, in an order in which they can be filled. The
// others hold leases and records of work.
func Tables() []string {
	return []string{"documents", "project_documents", "store_items", "annotation_spans", "annotation_relations", "annotation_attributes"}
}
