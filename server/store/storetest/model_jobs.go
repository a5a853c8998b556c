package storetest

import (
	"pgregory.net/rapid"
)

func (m *model) jobActions() actions {
	return actions{
		"stop": m.stopOne,
	}
}

func (m *model) stopOne(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "really") == 0 {
		m.stop(pick(t, m.uploads, "job").JobID)
	}
}
