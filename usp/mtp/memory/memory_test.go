package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"twinspan/usp/mtp/memory"
	"twinspan/usp/mtp/mtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	mtptest.Run(t, func(*testing.T) mtptest.Bed {
		cfg := memory.Default()
		a, b := memory.New(cfg)
		return mtptest.Bed{Client: a, Server: b, MaxRecord: cfg.MaxRecord, Drop: a.Break}
	})
}
