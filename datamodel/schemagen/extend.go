package schemagen

import "twinspan/datamodel"

// Extend adds the elements of a vendor's XML file to rows for the protocols given; rows stay as they are for the
// others. The file's model may say base="Device:2.x" of the standard's documents, which are not needed, and names
// what it changes with <object base="...">.
func Extend(rows []Row, file string, dirs []string, protos datamodel.Protocol) ([]Row, error) {
	var out []Row
	for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
		if protos.Has(proto) {
			extended, err := ReadXML(file, dirs, proto, rows)
			if err != nil {
				return nil, err
			}
			out = append(out, extended...)
			continue
		}
		for _, r := range rows {
			if r.Protocols.Has(proto) {
				r.Protocols = proto
				out = append(out, r)
			}
		}
	}
	return out, nil
}
