package datamodel

// Protocol is a set of management protocols. Most functions take exactly one; Schema elements carry the set in which
// they exist.
type Protocol uint8

const (
	// CWMP is TR-069.
	CWMP Protocol = 1 << iota
	// USP is TR-369.
	USP
)

// Both is the set of the two.
const Both = CWMP | USP

// Has reports whether p contains every protocol of q.
func (p Protocol) Has(q Protocol) bool { return p&q == q }

func (p Protocol) String() string {
	switch p {
	case CWMP:
		return "cwmp"
	case USP:
		return "usp"
	case Both:
		return "both"
	}
	return "none"
}

func (p Protocol) index() int {
	if p == USP {
		return 1
	}
	return 0
}
