//go:build !omit_sim

package main

import (
	"twinspan/datamodel"
	"twinspan/datamodel/sim"
)

// newSim builds the provider that simulates a device.
func newSim(opts map[string]any) (datamodel.Provider, error) {
	s := sim.New("sim")
	return s, s.Configure(opts)
}
