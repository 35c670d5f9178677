package transport

import (
	"errors"

	"twinspan/usp/agent"
	"twinspan/usp/mtp"
)

func (f *Factory) mqtt(agent.Spec) (mtp.Transport, error) {
	return nil, errors.New("transport: MQTT is not supported yet")
}
