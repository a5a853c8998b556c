// Package align finds where the text of an item lies in a document that says nearly the same, and maps its spans. It is
// pure: no I/O, no goroutines, no clocks; the same two texts give the same answer on every machine.
//
//	d := align.New(document)         // once, for all items of the document
//	a := d.Align(item, 0)
//	a.Share()                        // which part of the item was found
//	span, ok := a.Map(begin, end)    // where a span of the item lies; not ok: it is lost
//
// All offsets are code points, ends are exclusive.
//
// # Levels
//
//   - Exact: the document's text holds the item's, code point by code point.
//   - Mapped: it does after both were folded. Of several places the one that is asked for is taken, at either level.
//   - General: what both have in common is put together from parts. What is left over is lost.
//
// # Folding
//
// A text is folded by decomposing it (NFKD: é is e and an accent, ﬁ is f and i, a no-break space is a space), putting
// combining characters in canonical order, making letters small, and mapping Greek letters to their names (α is alpha; μ and
// the micro sign are mu), all dashes and the minus to "-", all single and double quotes to ' and ". A run of white space
// becomes one space. Invisible characters (soft hyphens, zero-width spaces, marks of direction, variation selectors) are left
// out. Each stretch of the folded form knows which code points it stands for: a character that became several (α) is one
// unit, as are several that became one (a run of spaces) and combining characters whose order was changed. A span that ends
// inside of a unit is moved outwards to the end of it.
//
// Only whole units match: "ph" is not found in α. Of the places of a text at level Mapped only those count that are laid
// out like the first, unit by unit, so that a span has the same offsets from the beginning in each of them; see [Phrase].
//
// # The general level
//
// On the folded forms, in bytes:
//
//  1. Anchors. The n-grams of the document that occur at most 8 times are indexed, once, by hash; n grows with the
//     logarithm of its length, 6 to 16. Of a long document only those with the least hash in a window of 4 or 8 are: the
//     winnowing of Schleimer, Wilkerson and Aiken (2003), known in genomics as minimizers (Roberts et al. 2004), by which
//     two texts that share a stretch longer than n and the window share an anchor. Those of the item are looked up and
//     extended to both sides as far as the texts agree: blocks.
//  2. The chain. The blocks of greatest total length that come in the same order in both texts: the heaviest increasing
//     subsequence, in O(b log b) by a Fenwick tree, as in the chaining of genome aligners. Blocks shorter than the item's
//     text on both sides of them are dropped; any two texts have such in common.
//  3. What is left of the item between the blocks, if it is 32 bytes or more, is looked for in the whole document by the
//     same steps, up to four times: passages that come in another order, and such that the item says twice.
//  4. Gaps. What lies between two neighbors in the item and in the document is looked into for anchors of its own, with
//     shorter n-grams, to a depth of three, and then compared by tokens (words, other characters) and, between equal tokens,
//     by characters: the heaviest common subsequence, by dynamic programming, where what follows each other weighs more.
//     (Needleman and Wunsch's method without penalties; the anchoring is in the spirit of Cohen's patience diff and of
//     MUMmer.) Different words are taken to correspond if they have half of their characters in common. Where one side is
//     much longer than the other, only what is near the anchors takes part.
//  5. Blocks that are not longer than what differs on both of their sides are dropped; the others grow into what that
//     leaves.
//
// A span is mapped to the stretch between its first and its last character that is in a block; what differs at one of its
// ends belongs to it if all of the difference does. It is lost unless more than half of it, outside white space, is in
// blocks, in order, and that is at least half of what the document has there.
//
// # Time and memory
//
// With d and m the bytes of the folded document and item:
//
//   - Preparing a document takes O(d), once. Besides the text it keeps at most 24 bytes for each byte of the folded form
//     and 12 for each code point; prose takes 5 to 8 a byte. The folded form of ASCII is as long as the text, that of Greek
//     up to 3.5 times.
//   - Aligning at the levels Exact and Mapped takes what searching takes; at level Mapped, at most 64 d steps are spent on
//     places that turn out to be none, and the text counts as not held after that.
//   - At the general level it takes at most 400 (d + m) steps and two million; prose takes 1 to 5. The blocks to choose
//     from are m/4 and a thousand at most, of 70 bytes each; tables take 64 KiB. What would take more is left unaligned:
//     texts in which nothing is rare, such as one letter repeated, or a short period. They have but what they share at
//     their ends.
//
// The bounds hold for any texts, which a test shows by counting. Texts must be valid UTF-8 (what is not counts as U+FFFD) and
// shorter than 512 MiB.
//
// # Why no diff library
//
// Go's diff libraries were considered for step 4: sergi/go-diff bounds its work by the clock, so that the answer would
// depend on the machine's load, and without that not at all; gotextdiff and go-udiff, which come from gopls, compare whole
// texts by Myers's method, whose shortest script ties single letters of unrelated words together, within bounds that cannot
// be set. The comparison of two short lists of tokens is some sixty lines, prefers what hangs together, and its work is
// known beforehand.
package align
