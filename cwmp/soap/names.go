package soap

import "strings"

// Namespaces. The schemas of CWMP 1.2, 1.3 and 1.4 share cwmp-1-2; 1-3 and 1-4 are only met in the field and are
// accepted on receipt (TR-069 3.7.4).
const (
	NSEnvelope = "http://schemas.xmlsoap.org/soap/envelope/"
	NSEncoding = "http://schemas.xmlsoap.org/soap/encoding/"
	NSSchema   = "http://www.w3.org/2001/XMLSchema"
	NSInstance = "http://www.w3.org/2001/XMLSchema-instance"
	NSCWMP10   = "urn:dslforum-org:cwmp-1-0"
	NSCWMP11   = "urn:dslforum-org:cwmp-1-1"
	NSCWMP12   = "urn:dslforum-org:cwmp-1-2"
	NSCWMP13   = "urn:dslforum-org:cwmp-1-3"
	NSCWMP14   = "urn:dslforum-org:cwmp-1-4"

	nsEnvelope12 = "http://www.w3.org/2003/05/soap-envelope"
	actorNext    = "http://schemas.xmlsoap.org/soap/actor/next"
)

func isCWMP(uri string) bool {
	switch uri {
	case NSCWMP12, NSCWMP10, NSCWMP11, NSCWMP13, NSCWMP14:
		return true
	}
	return false
}

// Type is the xsi:type of a parameter value. The zero value is "none given".
type Type uint8

const (
	NoType Type = iota
	String
	Int
	UnsignedInt
	Boolean
	DateTime
	Base64
	HexBinary
	Long
	UnsignedLong
	Decimal
	// OtherType is an xsi:type that CWMP does not know; it is written without xsi:type.
	OtherType
)

// typeNames are the QNames that are written. base64 is the one of SOAP encoding, as in the schemas of CWMP 1.0-1.2.
var typeNames = [...]string{
	String: "xsd:string", Int: "xsd:int", UnsignedInt: "xsd:unsignedInt", Boolean: "xsd:boolean",
	DateTime: "xsd:dateTime", Base64: "soap-enc:base64", HexBinary: "xsd:hexBinary", Long: "xsd:long",
	UnsignedLong: "xsd:unsignedLong", Decimal: "xsd:decimal", OtherType: "",
}

// String returns the QName as written on the wire, "" for NoType and OtherType.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return ""
}

// ParseType reads the name of a type, with or without prefix. The prefix is not looked at: xsd:base64 and
// soap-enc:base64 are both met. Unknown names give OtherType, the empty string NoType.
func ParseType(name string) Type {
	name = strings.TrimSpace(name)
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name = name[i+1:]
	}
	switch name {
	case "":
		return NoType
	case "base64Binary":
		return Base64
	}
	for t := String; t <= Decimal; t++ {
		full := typeNames[t]
		if full[strings.IndexByte(full, ':')+1:] == name {
			return t
		}
	}
	return OtherType
}
