//go:build !linux

package linux

import "errors"

// On another system the package builds, for tests of what stands above it, and reads a fixture tree.
type watcher struct{ hint chan struct{} }

func startWatcher() (*watcher, error) { return nil, errors.ErrUnsupported }

func (w *watcher) Close() error { return nil }

func clockSynced() (bool, error) { return false, errors.ErrUnsupported }

func kernelLink(string) (linkSettings, error) { return linkSettings{}, errors.ErrUnsupported }
