//go:build omit_sim

package main

import (
	"errors"

	"twinspan/datamodel"
)

// newSim refuses: a device needs no simulation of itself.
func newSim(map[string]any) (datamodel.Provider, error) {
	return nil, errors.New(`provider "sim" is not in this build; the tag omit_sim left it out`)
}
