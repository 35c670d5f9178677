package usp

import "maps"

// tests holds the procedure of each id. Ids of the catalogue that are not here are not shown.
var tests = func() map[string]test {
	out := map[string]test{}
	for _, m := range []map[string]test{addTests(), setTests(), deleteTests(), getTests(), notifyTests(), modelTests(), operateTests(),
		rightsTests(), clockTests(), functionTests(), firmwareTests(), webSocketTests(), mqttTests()} {
		maps.Copy(out, m)
	}
	return out
}()
