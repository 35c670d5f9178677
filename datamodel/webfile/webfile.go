package webfile

// Request says what to move.
type Request struct {
	URL                string
	Username, Password string // both empty: no authentication
	MaxSize            int64  // bytes; more is refused
	Size               int64  // what was announced, 0 = unknown
}

// Error says why a transfer failed, without protocol numbers.
type Error struct {
	Reason Reason
	Text   string // for the manager; no secrets
	Err    error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Text + ": " + e.Err.Error()
	}
	return e.Text
}
func (e *Error) Unwrap() error { return e.Err }

// Reason classifies an Error.
type Reason int

const (
	Failed       Reason = iota // anything else
	Unauthorized               // the server refused the credentials
	NoServer                   // name, connection or certificate of the server
	NoFile                     // the server does not give or take this file
	Incomplete                 // it began and broke off
	Corrupt                    // the file arrived and is unusable
	Unsupported                // this device cannot do it
)

var errTooLarge = &Error{Reason: Failed, Text: "the file is larger than this device takes"}
