// Package annotation knows what one item of an annotation collection is: it reads an item, brings it into normal form,
// says what is wrong with it and exactly where, and writes it back. It does no I/O, starts no goroutine and knows
// neither uploads nor databases.
//
// # The format
//
// An item is one JSON object in PubAnnotation's annotation format
// (https://www.pubannotation.org/docs/annotation-format/):
//
//	{"sourcedb":"PubMed","sourceid":"8701013","text":"Aspirin helps.",
//	 "denotations":[{"id":"T1","span":{"begin":0,"end":7},"obj":"Chemical"}],
//	 "blocks":     [{"id":"B1","span":{"begin":0,"end":14},"obj":"Sentence"}],
//	 "relations":  [{"id":"R1","subj":"T1","pred":"treats","obj":"T2"}],
//	 "attributes": [{"id":"A1","subj":"T1","pred":"negated","obj":true}]}
//
// Offsets count Unicode code points of text from 0, end is exclusive. A span may be an array of such, the parts of a
// discontinuous annotation, in the order of the text and not overlapping. The four collections may be absent, null or
// empty. Other keys are accepted and ignored; "modifications" and "tracks" give a warning when they hold something,
// because it is not stored. A key that is unknown and looks like one that the item lacks, like "denotation", gives a
// warning, too.
//
// # Reading
//
// [Options.Scan] looks only at what cutting an upload into batches needs: whether the item is well formed, which
// document it belongs to and how much it weighs. [Options.Parse] checks everything and returns the [Item] in normal
// form. Both rest on the same first pass, so they cannot disagree on whether an item is well formed, nor on its
// identity. What they find is a list of [Finding] values; [Codes] lists every code they can carry.
//
// The checks form groups (see [Group]). A finding of GroupText ends the check of an item, because nothing after it can
// be placed with certainty; all findings of that group are still listed. The other groups are always checked together,
// so that one round of corrections is enough. An entry that is wrong in one field is not blamed a second time for what
// follows from it: a relation to a denotation whose span is out of range is no dangling reference.
//
// # Normal form
//
//   - The document key is in canonical spelling: see [NewKey].
//   - Every annotation has an id. Absent ids are given as T1, T2, … (B, R, A for blocks, relations, attributes), in order,
//     leaving out those in use. An id given to a denotation or block is never that of a relation nor the reverse, so that
//     the subject of an attribute means the same before and after.
//   - A denotation whose span is an array of several parts is a chain: its last part keeps its id and obj. Each of the
//     others is a denotation of its own, behind those that were written, with the obj "_FRAGMENT" and an id made of the
//     annotation's and the part's number, like T1-1, leaving out those in use. Each part but the first is tied to the one before it by a
//     relation "_lexicallyChainedTo", whose subj is the later and whose obj the earlier part, behind the relations that
//     were written. Blocks are the same, of blocks. [Item.AppendBaggedJSON] folds chains back.
//   - Every reference names an id of the same item. The subject of an attribute that is the id of both a denotation or
//     block and a relation means the denotation or block.
//   - An attribute written twice (same subject, predicate and value) is kept once, as its first entry.
//   - Strings other than the key are kept exactly as written, numbers among attribute values too.
//
// # Time and memory
//
// Both passes take time linear in the size of the item, but for the search for crossing denotations, which is
// O(n log n), and memory linear in it. The number and the size of findings are bounded whatever the item holds.
package annotation
