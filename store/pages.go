package store

import (
	"os"
)

func verifyPages(f *os.File, problem func(where string, err error) error) error { return nil }
