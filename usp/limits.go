package usp

// Limits bound what one record or message of a peer may cost.
type Limits struct {
	// RecordSize is the largest record in bytes.
	RecordSize int
	// Items is the largest number of repeated elements (strings, settings, results, map entries) in one message, all
	// together. An empty element takes 2 bytes on the wire and about 100 in memory: without this bound a record of the
	// permitted size could cost fifty times its size.
	Items int
}

// DefaultLimits are 1 MiB and 50,000 elements: at most about 6 MiB for one message.
func DefaultLimits() Limits { return Limits{RecordSize: 1 << 20, Items: 50_000} }
