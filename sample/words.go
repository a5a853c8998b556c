package sample

import "unicode/utf8"

// word is a piece of text that needs no escaping in JSON, but for what is escaped already.
type word struct {
	json   string
	length int    // in code points, as decoded
	label  string // of a denotation on it; empty for words that get none
}

// The vocabulary is invented: it only has to look like the texts that people annotate.
var (
	plainWords = words("",
		"the", "of", "in", "and", "with", "by", "was", "were", "after", "under", "between", "which", "suggests",
		"binding", "response", "expression", "samples", "treated", "observed", "increased", "reduced", "level",
		"pathway", "control", "group", "during", "growth", "signal", "strongly", "weakly", "dose", "culture", "assay",
		"measured", "region", "domain", "release", "uptake", "mutant", "wild-type", "significant", "independent",
		"cohort", "baseline", "median", "follow-up", "p<0.05", "3.2-fold", "naïve", "in vivo", "(n=12)")
	entityWords = append(append(append(append(
		words("Protein", "tarvin-2", "KLP7", "ormedin", "p61ζ", "veskinase", "TGF-β9", "αB-lumelin", "NF-κQ", "GRX14",
			"poltherin", "sivA", "MUR-8", "drennin", "ψ-ligase"),
		words("Disease", "morvane syndrome", "calcitosis", "hyperlumenia", "Béjart disease", "dystelia", "ulmaria",
			"neurofibrosis", "corvitis")...),
		words("Chemical", "oxaprene", "4-vinyltellide", "merocholine", "Δ9-lutanol", "sulvamide", "quorenine",
			"zinc trivalate", "β-carovene")...),
		words("Species", "Luma borealis", "M. trivellus", "zebra carp", "Köhler's newt", "S. aurantis", "𝛂-phage")...),
		// The last ones lie outside the basic plane, which UTF-16 counts twice: plain, and as an escaped pair.
		word{json: "DNA🧬", length: 4, label: "Protein"},
		word{json: `virus\ud83e\udda0`, length: 6, label: "Species"},
		word{json: `caf\u00e9ol`, length: 6, label: "Chemical"},
	)
	relationWords  = []string{"binds", "inhibits", "causes", "treats", "regulates"}
	attributeWords = []string{`"negated","obj":true`, `"confidence","obj":0.875`, `"evidence","obj":"observed"`, `"rank","obj":3`}
)

// words makes a list whose pieces stand for themselves.
func words(label string, texts ...string) []word {
	list := make([]word, len(texts))
	for i, text := range texts {
		list[i] = word{json: text, length: utf8.RuneCountInString(text), label: label}
	}
	return list
}
