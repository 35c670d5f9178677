package datamodel

import (
	"fmt"
	"sync"
)

// maxPatterns bounds the cache of compiled patterns. The whole of TR-181 has fewer than a hundred different ones.
const maxPatterns = 256

var patterns = struct {
	sync.RWMutex
	m map[string]*xsdRegexp
}{m: map[string]*xsdRegexp{}}

// A value must match as a whole; ^ and $ are plain characters, a dot does not match line ends, and the escapes \d \w \s
// \i \c have their XML Schema meaning. Class subtraction ([a-z-[aeiou]]) and Unicode blocks (\p{IsGreek}) are errors.

// CheckPattern reports whether an XML Schema regular expression can be used in Facts.Patterns. Schema loaders call it,
// so that a vendor's file is refused when it is read and not when a manager writes.
func CheckPattern(xsd string) error {
	_, err := compileXSD(xsd)
	if err != nil {
		return fmt.Errorf("pattern %q: %w", xsd, err)
	}
	return nil
}

func compilePattern(xsd string) (*xsdRegexp, error) {
	patterns.RLock()
	re := patterns.m[xsd]
	patterns.RUnlock()
	if re != nil {
		return re, nil
	}
	re, err := compileXSD(xsd)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", xsd, err)
	}
	patterns.Lock()
	defer patterns.Unlock()
	if len(patterns.m) >= maxPatterns {
		for k := range patterns.m { // any one: map order is as good as a policy here
			delete(patterns.m, k)
			break
		}
	}
	patterns.m[xsd] = re
	return re, nil
}
