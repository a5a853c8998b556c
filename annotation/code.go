package annotation

import "slices"

// Code names the kind of a finding. Codes are stable: scripts and stored findings depend on them.
type Code string

// The codes of [GroupText]: the item cannot be read.
const (
	ItemTooLarge  Code = "ITEM_TOO_LARGE"
	InvalidUTF8   Code = "INVALID_UTF8"
	InvalidJSON   Code = "INVALID_JSON"
	TrailingData  Code = "TRAILING_DATA"
	NotAnObject   Code = "NOT_AN_OBJECT"
	TooDeep       Code = "TOO_DEEP"
	NULCharacter  Code = "NUL_CHARACTER"
	LoneSurrogate Code = "LONE_SURROGATE"
	DuplicateKey  Code = "DUPLICATE_KEY"
)

// The codes of [GroupIdentity]: it is not known which document the item is about.
const (
	MissingSourceDB Code = "MISSING_SOURCEDB"
	MissingSourceID Code = "MISSING_SOURCEID"
	InvalidSourceDB Code = "INVALID_SOURCEDB"
	InvalidSourceID Code = "INVALID_SOURCEID"
)

// The codes of [GroupShape]: a value is missing, of the wrong type or out of range.
const (
	MissingText         Code = "MISSING_TEXT"
	InvalidText         Code = "INVALID_TEXT"
	InvalidCollection   Code = "INVALID_COLLECTION"
	InvalidEntry        Code = "INVALID_ENTRY"
	MissingObj          Code = "MISSING_OBJ"
	InvalidObj          Code = "INVALID_OBJ"
	MissingSpan         Code = "MISSING_SPAN"
	InvalidSpan         Code = "INVALID_SPAN"
	SpanPartsOutOfOrder Code = "SPAN_PARTS_OUT_OF_ORDER"
	TooManySpanParts    Code = "TOO_MANY_SPAN_PARTS"
	MissingOffset       Code = "MISSING_OFFSET"
	InvalidOffset       Code = "INVALID_OFFSET"
	SpanOutOfRange      Code = "SPAN_OUT_OF_RANGE"
	SpanEmpty           Code = "SPAN_EMPTY"
)

// The codes of [GroupReference]: ids and what refers to them.
const (
	InvalidID        Code = "INVALID_ID"
	DuplicateID      Code = "DUPLICATE_ID"
	MissingSubj      Code = "MISSING_SUBJ"
	InvalidSubj      Code = "INVALID_SUBJ"
	MissingPred      Code = "MISSING_PRED"
	InvalidPred      Code = "INVALID_PRED"
	UnknownReference Code = "UNKNOWN_REFERENCE"
	MixedRelation    Code = "MIXED_RELATION"
)

// The codes of [GroupWarning]: the item is accepted.
const (
	DuplicateAttribute Code = "DUPLICATE_ATTRIBUTE"
	SameRangeBlocks    Code = "SAME_RANGE_BLOCKS"
	CrossingSpans      Code = "CROSSING_DENOTATIONS"
	CrossingBlocks     Code = "CROSSING_BLOCKS"
	OffsetsSuspect     Code = "OFFSETS_SUSPECT"
	IgnoredKey         Code = "IGNORED_KEY"
	UnknownKey         Code = "UNKNOWN_KEY"
	CoercedNumber      Code = "COERCED_NUMBER"
)

// MoreFindings stands for the findings of an item beyond the limit. It is an error if one of them is.
const MoreFindings Code = "MORE_FINDINGS"

// Group says which part of the rules a code belongs to, in the order in which an item is checked.
type Group uint8

// The groups. A finding of GroupText ends the check of its item; findings of the others are listed together.
const (
	GroupText      Group = 1 + iota // the text of the upload
	GroupIdentity                   // the document key
	GroupShape                      // types, ranges, what must be there
	GroupReference                  // ids and references
	GroupWarning                    // nothing that rejects
	GroupSummary                    // MORE_FINDINGS
)

// CodeInfo describes a code.
type CodeInfo struct {
	Code        Code
	Group       Group
	Description string // a sentence
}

// Codes returns every code that Scan and Parse use, in the order of the checks. The slice is the caller's.
func Codes() []CodeInfo { return slices.Clone(codes) }

// Group returns the group of one of this package's codes, 0 for another's.
func (c Code) Group() Group {
	if i := slices.IndexFunc(codes, func(info CodeInfo) bool { return info.Code == c }); i >= 0 {
		return codes[i].Group
	}
	return 0
}

// Severity returns Warning for the codes of [GroupWarning], Error for the others. MORE_FINDINGS has either; ask the
// finding.
func (c Code) Severity() Severity {
	switch c {
	case DuplicateAttribute, SameRangeBlocks, CrossingSpans, CrossingBlocks, OffsetsSuspect, IgnoredKey, UnknownKey, CoercedNumber:
		return Warning
	default:
		return Error
	}
}

var codes = []CodeInfo{
	{ItemTooLarge, GroupText, "The item is longer than the item size limit and was not read."},
	{InvalidUTF8, GroupText, "The item is not valid UTF-8."},
	{InvalidJSON, GroupText, "The item is not valid JSON."},
	{TrailingData, GroupText, "Something follows the item's object, as when two objects stand on one line."},
	{NotAnObject, GroupText, "The item is valid JSON, but not an object."},
	{TooDeep, GroupText, "Objects and arrays are nested deeper than the limit."},
	{NULCharacter, GroupText, "A string holds the character U+0000, which databases cannot store."},
	{LoneSurrogate, GroupText, "A string holds half of a surrogate pair (\\ud800 to \\udfff), which is no character."},
	{DuplicateKey, GroupText, "An object has the same key twice; keeping one would lose the other."},
	{MissingSourceDB, GroupIdentity, "The item does not say which database its document comes from."},
	{MissingSourceID, GroupIdentity, "The item does not say which id its document has."},
	{InvalidSourceDB, GroupIdentity, "The sourcedb is of the wrong type, longer than 255 bytes or has control characters."},
	{InvalidSourceID, GroupIdentity, "The sourceid is of the wrong type, longer than 255 bytes or has control characters."},
	{MissingText, GroupShape, "The item has no text, or a blank one."},
	{InvalidText, GroupShape, "The text is not a string."},
	{InvalidCollection, GroupShape, "denotations, blocks, relations or attributes is not an array."},
	{InvalidEntry, GroupShape, "An entry of a collection is not an object."},
	{MissingObj, GroupShape, "A denotation, block or relation has no obj, or a blank one."},
	{InvalidObj, GroupShape, "An obj is of the wrong type: a string is needed, a string or integer in relations, a string, " +
		"number or boolean in attributes."},
	{MissingSpan, GroupShape, "A denotation or block has no span."},
	{InvalidSpan, GroupShape, "A span, or a part of a span that is an array, is not an object."},
	{MissingOffset, GroupShape, "A span has no begin or no end."},
	{InvalidOffset, GroupShape, "A begin or end is not an integer."},
	{SpanOutOfRange, GroupShape, "A span begins before the text or ends after it."},
	{SpanEmpty, GroupShape, "A span, or a part of one, ends where it begins, or before."},
	{SpanPartsOutOfOrder, GroupShape, "A part of a span array begins before the part ahead of it ends."},
	{TooManySpanParts, GroupShape, "The ids that the parts of the item's span arrays would be given take too much room."},
	{InvalidID, GroupReference, "An id is not a string or integer, or longer than 1,024 bytes."},
	{DuplicateID, GroupReference, "Two denotations or blocks, two relations or two attributes have the same id."},
	{MissingSubj, GroupReference, "A relation or attribute has no subj."},
	{InvalidSubj, GroupReference, "A subj is not a string or integer."},
	{MissingPred, GroupReference, "A relation or attribute has no pred, or a blank one."},
	{InvalidPred, GroupReference, "A pred is not a string."},
	{UnknownReference, GroupReference, "A subj or obj refers to something that the item does not have."},
	{MixedRelation, GroupReference, "A relation ties a denotation to a block."},
	{DuplicateAttribute, GroupWarning, "The same attribute stands twice; it is stored once."},
	{SameRangeBlocks, GroupWarning, "Two blocks have the same range."},
	{CrossingSpans, GroupWarning, "Two denotations overlap and neither holds the other."},
	{CrossingBlocks, GroupWarning, "Two blocks overlap and neither holds the other."},
	{OffsetsSuspect, GroupWarning, "The spans look as if counted in bytes or UTF-16 units, not in Unicode code points: only so do they " +
		"begin and end with words."},
	{IgnoredKey, GroupWarning, "modifications or tracks has content, which is not stored."},
	{UnknownKey, GroupWarning, "A key is unknown and looks like one that the item lacks; its value is not stored."},
	{CoercedNumber, GroupWarning, "A begin or end was written as a string or with a fraction and was taken as the integer it means."},
	{MoreFindings, GroupSummary, "The item has more findings than are listed."},
}
