// Package source gets the texts of documents from a document source: an HTTP service that answers a list of ids of one
// sourcedb with the documents that it has.
//
// A call is a POST of a JSON array of ids. The answer is an object:
//
//	{"docs": [{"sourcedb": "PubMed", "sourceid": "1", "text": "…", "source_url": "…"}], "messages": ["…"]}
//
// What is asked for and is not among the docs the source does not have. What was not asked for is ignored, and so is every
// other member. A sourcedb may be absent; ids are compared in their canonical spelling, in which case counts. An empty
// list is answered by no docs: that is how a source which is out of order is told from an id that it cannot bear.
//
// What a call can come to, and what then:
//
//	an answer as above                            a document, or none, for each id; none is remembered for a minute
//	no connection, a broken one, a time-out,      the same again after growing pauses, or after Retry-After; after a time-out
//	408, 425, 429, 502, 503, 504                  in smaller lists. After Patience ErrUnavailable
//	401, 407                                      ErrUnavailable
//	any other status; an answer that is not of    the list is halved. An id that is alone then is refused if the source has
//	the form, not UTF-8, or too large             answered anything meanwhile, if only an empty list. For 5xx it is tried twice
//	                                              more, and the source must then answer for an id that it had, if there was
//	                                              one. Otherwise ErrUnavailable
//	a text with U+0000, blank or absent,          that id is refused
//	or two different ones of one document
//
// So one bad id among n costs at most 2 log₂ n + 3 calls more, and a source that fails on everything refuses nothing.
// While a source is unavailable each Lookup tries once.
package source
