package schemagen

import (
	"fmt"
	"strings"

	"twinspan/datamodel"
)

// Diff compares two sets of rows element by element and protocol by protocol in their canonical form, and calls report
// for every column that differs.
func Diff(aName string, a []Row, bName string, b []Row, report func(line string)) error {
	type key struct {
		proto datamodel.Protocol
		kind  Kind
		path  string
	}
	split := func(rows []Row) ([]key, map[key]Row, error) {
		canonical, err := Canonical(rows)
		if err != nil {
			return nil, nil, err
		}
		var keys []key
		byKey := make(map[key]Row, 2*len(canonical))
		for _, r := range canonical {
			for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
				if r.Protocols.Has(proto) {
					k := key{proto, r.Kind, r.Path}
					keys = append(keys, k)
					byKey[k] = r
				}
			}
		}
		return keys, byKey, nil
	}
	aKeys, aRows, err := split(a)
	if err != nil {
		return fmt.Errorf("%s: %w", aName, err)
	}
	bKeys, bRows, err := split(b)
	if err != nil {
		return fmt.Errorf("%s: %w", bName, err)
	}
	for _, k := range aKeys {
		ra := aRows[k]
		rb, ok := bRows[k]
		if !ok {
			report(fmt.Sprintf("%s %s %s: only in %s", k.proto, k.kind, k.path, aName))
			continue
		}
		ra.Protocols, rb.Protocols = k.proto, k.proto
		ca, cb := strings.Split(formatRow(&ra), "\t"), strings.Split(formatRow(&rb), "\t")
		names := strings.Split(tableHeader, "\t")
		for i := range ca {
			if ca[i] != cb[i] {
				report(fmt.Sprintf("%s %s %s: %s: %q in %s, %q in %s", k.proto, k.kind, k.path, names[i], ca[i], aName, cb[i], bName))
			}
		}
	}
	for _, k := range bKeys {
		if _, ok := aRows[k]; !ok {
			report(fmt.Sprintf("%s %s %s: only in %s", k.proto, k.kind, k.path, bName))
		}
	}
	return nil
}
