package store_test

import (
	"path/filepath"
	"testing"

	"twinspan/store"
	"twinspan/store/storetest"
)

func TestSuiteMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) *store.Store { return store.OpenMemory(o) })
}

func TestSuiteFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) *store.Store {
		path := filepath.Join(t.TempDir(), "suite.db")
		t.Cleanup(func() { // after the suite closed it
			problems, err := store.Check(path)
			if err != nil || len(problems) > 0 {
				t.Errorf("check: %v %v", problems, err)
			}
		})
		s, err := store.Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
