package compact

import "errors"

// The form, version 1. All numbers are little-endian.
//
//	magic "TSDM", u16 version, u16 reserved 0, u32 CRC-32 (IEEE) of everything behind this field
//	u16 string number of the model's name, u16 of its version
//	for each section in the order below: u32 number of records
//	the sections, without gaps
//
// Lists, arguments and everything an object has are in the order of their owners, each record with exactly one owner; so
// the size of a decoded schema is in proportion to that of the data.
//
// A string is a u16 number into the string section, 0 the empty one. A list (of ranges, words, ...) is a u16 number
// into its list section, whose records are u16 first, u16 count; list 0 is empty. Facts are u16 numbers starting at 1,
// 0 meaning none.
const (
	magic      = "TSDM"
	version    = 1
	headerSize = 4 + 2 + 2 + 4 + 2 + 2 + 4*int(sectionCount)
	crcOffset  = 8
	crcStart   = 12
)

type section int

const (
	secStringEnds section = iota // u32 end of the string in the pool
	secPool                      // u8
	secObjects
	secParams   // u16 name, u16 CWMP facts, u16 USP facts
	secCommands // u16 name, u16 flags, u16 first input, u16 inputs, u16 first output, u16 outputs
	secEvents   // u16 name, u16 first argument, u16 arguments
	secArgs     // u16 name, u16 facts
	secKeys     // u16 flags, u16 list of names
	secFacts
	secRangeLists
	secRanges // u16 flags, i64 min, i64 max, i64 step
	secEnumLists
	secEnums // u16 word, u16 flags
	secNameLists
	secNames // u16 string
	secRefs  // u16 flags, u16 target, u16 list of parents
	sectionCount
)

var recordSize = [sectionCount]int{
	secStringEnds: 4,
	secPool:       1,
	secObjects:    36,
	secParams:     6,
	secCommands:   12,
	secEvents:     6,
	secArgs:       4,
	secKeys:       4,
	secFacts:      32,
	secRangeLists: 4,
	secRanges:     26,
	secEnumLists:  4,
	secEnums:      4,
	secNameLists:  4,
	secNames:      2,
	secRefs:       6,
}

// Offsets in a record of secObjects. An object's parameters, commands, events and keys are the records from its first
// one to the first one of the next object.
const (
	objParent   = 0  // u16 number of the parent; of the root its own, 0
	objName     = 2  // u16
	objPath     = 4  // u16
	objFlags    = 6  // u16: protocols 0-1, multi 2, CWMP access 4-5, USP access 6-7
	objMin      = 8  // u32
	objMax      = 12 // u32, all ones: unbounded
	objEntries  = 16 // u16 name
	objEnable   = 18 // u16 name
	objParams   = 20 // u16 first, u16 count
	objCommands = 24
	objEvents   = 28
	objKeys     = 32
)

const objMulti = 1 << 2

// Offsets in a record of secFacts.
const (
	factType     = 0 // u8
	factAccess   = 1 // u8
	factFlags    = 2 // u16
	factNamed    = 4
	factListLen  = 6
	factListSize = 8
	factSize     = 10
	factRange    = 12
	factEnum     = 14
	factPatterns = 16
	factRef      = 18 // u16 number of a reference plus one
	factEnumRef  = 20
	factUnits    = 22
	factDefault  = 24
	factNotify   = 26
	factVersion  = 28
	factStatus   = 30
)

const (
	flagList = 1 << iota
	flagHidden
	flagSecured
	flagCommand
	flagHasDefault
	flagFactoryOnly
	flagMandatory
	flagForcedInform
)

const (
	rangeHasMin = 1 << iota
	rangeHasMax
)

const (
	enumOptional = 1 << iota
	enumDeprecated
)

const (
	commandAsync  = 1
	keyFunctional = 1
	refStrong     = 1
)

// maxPathBytes bounds a path; the longest of TR-181 has about 150.
const maxPathBytes = 1024

var errCorrupt = errors.New("compiled data model is corrupt")
