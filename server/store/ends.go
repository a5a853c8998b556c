package store

// Messages of attempts that a store ends by itself.
const (
	LostMessage         = "the lease ran out without a heartbeat"
	SilentMessage       = "the lease ran out without a heartbeat, for the third time in a row while most other workers kept beating"
	VanishedMessage     = "the worker vanished, the third one in a row that did so with this batch and was never heard of again"
	BrokenMessage       = "the worker's connection broke and the worker did not come back"
	ReplacedMessage     = "the worker was started again"
	DeregisteredMessage = "the worker shut down"
)
