package prove

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"twinspan/store"
)

// births fails the disk at the n-th call of a start, of the first one of all and of a later one, for every n, or one of every so many.
// Such an agent may run or end with a reason. With a good disk it must then start, and have what was there.
func (f *faultRun) births(ctx context.Context, o Options, stride int) error {
	for _, first := range []bool{true, false} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
			r, err := newRig(ctx, rigOptions{binary: o.Agent, journal: 100})
			if err != nil {
				return err
			}
			err = f.birth(ctx, r, first, errno, stride)
			r.close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

const birthValue = "birth-1"

func (f *faultRun) birth(ctx context.Context, r *rig, first bool, errno syscall.Errno, stride int) error {
	if !first {
		err := r.healthy(ctx, func(ctx context.Context) error {
			_, err := uspFace{r.a}.set(ctx, []object{client(1, birthValue)}, false, "")
			return err
		})
		if err != nil {
			return err
		}
	}
	for n := 1; ; n += stride {
		if first {
			if err := os.RemoveAll(r.agent.Data); err != nil {
				return err
			}
		}
		met, ran, err := r.failingStart(ctx, n, errno)
		where := fmt.Sprintf("%v at call %d of a start (the first one: %t)", errno, n, first)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if met {
			f.counts["faults met"]++
			f.counts[fmt.Sprintf("%v while starting", errno)]++
			if !ran {
				f.counts["starts that ended with a reason"]++
			}
		}
		if aside, _ := filepath.Glob(r.database() + ".corrupt-*"); len(aside) > 0 {
			return fmt.Errorf("%s: the database was given up: %v", where, aside)
		}
		err = r.healthy(ctx, func(ctx context.Context) error {
			if first {
				return nil
			}
			got, err := r.a.Value(ctx, clients+"1.Servers")
			if err == nil && got != birthValue {
				err = fmt.Errorf("%q was acknowledged and is lost", birthValue)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("after %s: %w", where, err)
		}
		if !met {
			return nil
		}
	}
}

// failingStart starts the agent with one bad call and kills it when it has said 1 BOOT; ran is false if it ended before.
func (r *rig) failingStart(ctx context.Context, n int, errno syscall.Errno) (met, ran bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, err := newTap(r)
	if err != nil {
		return false, false, err
	}
	t.setFault(func(*call) (syscall.Errno, int) {
		if n--; n == 0 {
			met = true
			return errno, 0
		}
		return 0, 0
	})
	began := time.Now()
	if err := r.agent.Start(); err != nil {
		return false, false, errors.Join(err, t.close(r))
	}
	boot, stop := context.WithCancel(ctx)
	booted := make(chan error, 1)
	r.wg.Go(func() {
		_, err := r.device.WaitEvent(boot, began, "1 BOOT")
		booted <- err
	})
	select {
	case err = <-booted:
		ran = true
		err = errors.Join(err, r.agent.Kill())
	case <-r.agent.Done():
		if r.agent.Log(1) == "" || !strings.Contains(r.agent.Log(3), "twinspan run:") {
			err = errors.New("it ended without a word")
		}
	}
	stop()
	return met, ran, errors.Join(err, t.close(r))
}

// healthy starts the agent on a good disk, does something, stops it and checks its database.
func (r *rig) healthy(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release, _, err := r.up(ctx)
	defer release()
	if err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	release()
	if err := r.agent.Stop(ctx); err != nil {
		return err
	}
	problems, err := store.Check(r.database())
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("store check: %d problems, the first at %s: %s", len(problems), problems[0].Path, problems[0].What)
	}
	return err
}
