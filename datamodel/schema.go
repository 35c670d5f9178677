package datamodel

// Access says how a manager may use an element (TR-106 access attribute).
type Access uint8

const (
	ReadOnly Access = iota
	// ReadWrite on a table means that rows can be added and deleted.
	ReadWrite
	// WriteOnceReadOnly can be written when the row is created, or once afterwards while it still has no written
	// value; later writes are refused.
	WriteOnceReadOnly
)

// Type is a TR-106 base type.
type Type uint8

const (
	TypeString Type = iota
	TypeBoolean
	TypeInt
	TypeUnsignedInt
	TypeLong
	TypeUnsignedLong
	TypeDecimal
	TypeDateTime
	TypeBase64
	TypeHexBinary
)

// Range is an inclusive range of lengths or numbers; nil ends are open. Step 0 means any.
type Range struct {
	Min, Max *int64
	Step     int64
}

// EnumValue is one allowed word of an enumeration.
type EnumValue struct {
	Value      string
	Optional   bool
	Deprecated bool
}

// PathRef is the reference facet of a parameter whose value names another element (TR-106 3.2.4).
type PathRef struct {
	Strong bool
	Target string // "row", "parameter", "single", "any", as in the data model
	// Parents are what the value may be below: canonical table paths ("Device.IP.Interface.",
	// "Device.IP.Interface.{i}.IPv6Prefix."), or objects for targets other than rows; empty = anything.
	Parents []string
}

// Facts are what one protocol's data model says of a parameter or argument. Immutable.
type Facts struct {
	Access   Access
	Type     Type
	Named    string // name of the named data type (IPAddress, StatsCounter64), or empty
	List     bool
	ListLen  []Range // characters of the whole list value
	ListSize []Range // number of items, where the model limits it
	Size     []Range // characters (string), octets (base64, hexBinary)
	Range    []Range // numbers
	Enum     []EnumValue
	Patterns []string // any of these must match the whole value (XML Schema regular expressions)
	PathRef  *PathRef
	EnumRef  string // supported path of the list parameter that holds the allowed words
	Units    string
	Hidden   bool // reads back as the empty value for everybody
	Secured  bool // reads back as the empty value without a secured role
	Command  bool // CWMP command parameter: reads as false or empty, writing it acts

	Default     string
	HasDefault  bool
	FactoryOnly bool // Default is the factory value, not that of a new row

	Mandatory    bool // arguments: must be given
	ForcedInform bool // CWMP: in every Inform
	ActiveNotify string
	Version      string // data-model version that brought it, for example "2.15"
	Status       string // "", "deprecated", "obsoleted"
}

// Param is one parameter of an Object. Facts may differ by protocol (Alias is readWrite for CWMP and
// writeOnceReadOnly for USP).
type Param struct {
	Name      string
	Object    *Object
	Protocols Protocol
	facts     [2]*Facts
}

// Facts returns the facts for exactly one protocol, nil where the parameter does not exist in it.
func (p *Param) Facts(proto Protocol) *Facts { return p.facts[proto.index()] }

// Any returns the facts of whichever protocol has the parameter, USP first: for storage, where only the type counts.
func (p *Param) Any() *Facts {
	if f := p.facts[1]; f != nil {
		return f
	}
	return p.facts[0]
}

// SetDefault gives the parameter a default where the model leaves it to the implementation. Only while nothing else reads the
// schema yet.
func (p *Param) SetDefault(value string) {
	for i, f := range p.facts {
		if f != nil {
			own := *f // facts may be shared between parameters
			own.Default, own.HasDefault, own.FactoryOnly = value, true, false
			p.facts[i] = &own
		}
	}
}

// Path is the supported path of the parameter.
func (p *Param) Path() string { return p.Object.Path + p.Name }

// NewParam builds a parameter; used by the schema loaders and by tests. Either facts may be nil.
func NewParam(name string, cwmp, usp *Facts) *Param {
	p := MakeParam(name, cwmp, usp)
	return &p
}

// MakeParam is NewParam by value, for loaders that allocate many at once.
func MakeParam(name string, cwmp, usp *Facts) Param {
	p := Param{Name: name, facts: [2]*Facts{cwmp, usp}}
	if cwmp != nil {
		p.Protocols |= CWMP
	}
	if usp != nil {
		p.Protocols |= USP
	}
	return p
}

// UniqueKey is a set of parameters of a table whose values together differ between any two rows.
type UniqueKey struct {
	Params []string
	// Functional keys may be changed while they stay unique; non-functional ones never change (R-KEY.1).
	Functional bool
}

// Argument is an input or output argument of a command or an argument of an event. Name may have dots and {i}:
// "TimeWindow.{i}.Start".
type Argument struct {
	Name  string
	Facts *Facts
}

// Command is a USP command of an object; Name ends in "()".
type Command struct {
	Name    string
	Object  *Object
	Async   bool
	Inputs  []Argument
	Outputs []Argument
}

// Event is a USP event of an object; Name ends in "!".
type Event struct {
	Name   string
	Object *Object
	Args   []Argument
}

// Object is an object of the schema: a single object, or a table (Multi) together with what each row holds.
type Object struct {
	Path      string // canonical supported path, "Device.IP.Interface.{i}." for a table
	Name      string // last name, "Interface"
	Multi     bool
	Parent    *Object
	Protocols Protocol

	Children []*Object // sorted by Name
	Params   []*Param  // sorted by Name
	Commands []*Command
	Events   []*Event
	Keys     []UniqueKey

	access     [2]Access
	MinEntries int
	MaxEntries int    // -1: unbounded
	NumEntries string // name of the ...NumberOfEntries parameter in the parent, or empty
	Enable     string // name of the enable parameter of a row, or empty
}

// Access of a table says whether rows can be added and deleted by a manager of proto.
func (o *Object) Access(proto Protocol) Access { return o.access[proto.index()] }

// SetAccess is for the schema loaders.
func (o *Object) SetAccess(proto Protocol, a Access) { o.access[proto.index()] = a }

// TablePath is the path of the table without the final {i}: "Device.IP.Interface."; for a single object its Path.
func (o *Object) TablePath() string {
	if o.Multi {
		return o.Path[:len(o.Path)-len("{i}.")]
	}
	return o.Path
}

// Child, Param, Command and Event look up by name in O(log n); nil when there is none.
func (o *Object) Child(name string) *Object {
	lo, hi := 0, len(o.Children)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if o.Children[m].Name < name {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo < len(o.Children) && o.Children[lo].Name == name {
		return o.Children[lo]
	}
	return nil
}

func (o *Object) Param(name string) *Param {
	lo, hi := 0, len(o.Params)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if o.Params[m].Name < name {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo < len(o.Params) && o.Params[lo].Name == name {
		return o.Params[lo]
	}
	return nil
}

func (o *Object) Command(name string) *Command {
	for _, c := range o.Commands {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func (o *Object) Event(name string) *Event {
	for _, e := range o.Events {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// Schema is a compiled data model, restricted to what a profile supports. Immutable after Load.
type Schema struct {
	// Name and Version of the data model: "Device", "2.19".
	Name, Version string
	root          *Object
}

// NewSchema wraps a finished tree of objects whose root is "Device.". It sorts nothing: the loaders do.
func NewSchema(name, version string, root *Object) *Schema {
	return &Schema{Name: name, Version: version, root: root}
}

// Root is the object "Device.".
func (s *Schema) Root() *Object { return s.root }
