package prove

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"twinspan/usp/controller"
)

// Bounds of the proof.
const (
	maxAlternations = 3               // of two masters, before one of them is told to stop
	maxWait         = 5 * time.Second // of any writer among many
	hotWriters      = 16
)

// fair lets two masters fight over a parameter, and many writers be hot at once beside an open session of the ACS.
func fair(ctx context.Context, o Options, rounds int) (*Result, error) {
	res := &Result{Name: "fair"}
	r, err := newRig(ctx, rigOptions{binary: o.Agent, journal: 2000})
	if err != nil {
		return res, err
	}
	defer r.close()
	release, _, err := r.up(ctx)
	defer func() { release() }()
	if err != nil {
		return res, err
	}
	worst := 0
	wars := min(max(rounds/100, 5), 60)
	for n := range wars {
		flips, err := war(ctx, r, fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.DomainName", n%fightRows+1), n)
		if err != nil {
			return res, fmt.Errorf("war %d: %w", n+1, err)
		}
		worst = max(worst, flips)
		if flips > maxAlternations {
			return res, fmt.Errorf("two masters alternated %d times before one was stopped, at most %d are allowed", flips, maxAlternations)
		}
		res.Cases++
		if n%fightRows == fightRows-1 {
			break // a parameter that was fought over stays with its winner
		}
	}
	res.say("%d wars of two Controllers that set their own value for ever: stopped after %d alternations at most, 7814 told to the loser", res.Cases, worst)
	all, refusals, err := hot(ctx, r, time.Duration(min(max(rounds, 1000), 10_000))*time.Millisecond*2)
	if err != nil {
		return res, err
	}
	slowest := all[len(all)-1]
	res.Cases += len(all)
	res.say("%d hot clients of two Controllers on the same parameters beside a session of the ACS that writes: %d writes, %d refused, median %.1f ms, 99 %% %.1f ms, slowest %.2f s",
		hotWriters, len(all), refusals, ms(all[len(all)/2]), ms(all[len(all)*99/100]), slowest.Seconds())
	if slowest > maxWait {
		return res, fmt.Errorf("a writer waited for %s, at most %s is allowed", slowest, maxWait)
	}
	return res, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// fightRows are the rows of the DHCPv4 server's pools that the masters fight over.
const fightRows = 5

// war lets two Controllers set their values in turn until one is refused for good; it returns how often the value changed hands.
func war(ctx context.Context, r *rig, path string, n int) (flips int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	row := path[:strings.LastIndexByte(path, '.')+1]
	last := ""
	for turn := range 100 {
		for who, c := range map[string]*controller.Controller{"a": r.a, "b": r.b} {
			if who == last {
				continue
			}
			_, err := uspFace{c}.set(ctx, []object{{row, [][2]string{{"DomainName", fmt.Sprintf("%s%d.example", who, n)}}}}, false, "")
			var refusal *controller.Error
			switch {
			case err == nil:
				if last != "" {
					flips++
				}
				last = who
			case errors.As(err, &refusal) && strings.Contains(err.Error(), "7814"):
				return flips, nil
			default:
				return flips, fmt.Errorf("turn %d of %s: %w", turn, who, err)
			}
		}
	}
	return flips, errors.New("nobody was stopped in 100 turns")
}

// hot returns how long the writes took, sorted.
func hot(ctx context.Context, r *rig, during time.Duration) (all []time.Duration, refusals int, err error) {
	ctx, cancel := context.WithTimeout(ctx, during+2*patience)
	defer cancel()
	end := time.Now().Add(during)
	var mu sync.Mutex
	var wg sync.WaitGroup
	one := func(write func(n int) error) {
		for n := 0; time.Now().Before(end); n++ {
			began := time.Now()
			werr := write(n)
			took := time.Since(began)
			mu.Lock()
			all = append(all, took)
			switch {
			case werr != nil && !answered(werr):
				err = errors.Join(err, werr)
			case werr != nil:
				refusals++
			}
			mu.Unlock()
			if werr != nil && !answered(werr) {
				return
			}
		}
	}
	for w := range hotWriters {
		face := uspFace{[]*controller.Controller{r.a, r.b}[w%2]}
		wg.Go(func() {
			one(func(n int) error {
				_, err := face.set(ctx, []object{client(1, fmt.Sprintf("hot%d-%d", w, n)), client(2, fmt.Sprintf("hot%d-%d", w, n))}, false, "")
				return err
			})
		})
	}
	wg.Go(func() {
		face := &acsFace{device: r.device}
		one(func(n int) error {
			_, err := face.set(ctx, []object{client(3, fmt.Sprintf("acs-%d", n))}, false, "")
			return err
		})
	})
	wg.Wait()
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	if len(all) == 0 {
		err = errors.Join(err, errors.New("nobody wrote"))
	}
	return all, refusals, err
}
