package datamodel

// PathKind is what the end of a path names.
type PathKind uint8

const (
	ObjectPath  PathKind = iota // ends in a dot: object, table or row
	ParamPath                   // no final dot
	CommandPath                 // ends in ()
	EventPath                   // ends in !
)

// StepKind is the kind of one element of a path.
type StepKind uint8

const (
	StepName     StepKind = iota // object name, or the final parameter, command or event name
	StepInstance                 // instance number
	StepAny                      // * wildcard
	StepExpr                     // [Name=="eth0"&&Enable==true]
	StepAlias                    // [alias], CWMP alias-based addressing (TR-069 3.6.1)
	StepTemplate                 // {i}, only in supported paths
	StepFollow                   // Name#n+ : follow the reference in parameter Name; N is n, 0 for *
)

// Op is a comparison operator of a search expression.
type Op uint8

const (
	OpEq Op = iota
	OpNe
	OpHas // ~=, list contains
	OpLe
	OpGe
	OpLt
	OpGt
)

// Comparison is one term of a search expression: relative parameter, operator, constant.
type Comparison struct {
	Param  []Step // relative path below the row, ending in a StepName; may follow references
	Op     Op
	Const  string // unquoted, percent-decoded
	Quoted bool
}

// Step is one element of a path.
type Step struct {
	Kind StepKind
	Name string       // StepName, StepFollow, StepAlias
	N    uint32       // StepInstance, StepFollow
	Expr []Comparison // StepExpr
}

// Path is a parsed path. The zero Path is the empty path (the top of the tree in CWMP). Immutable.
type Path struct {
	Steps []Step
	Kind  PathKind
	raw   string
}

// String returns the text that was parsed, byte for byte.
func (p Path) String() string { return p.raw }
