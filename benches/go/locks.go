package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// As in src/workload.rs.
const (
	sharers    = 4
	writeEvery = 1_000
	group      = 1_000
)

// So many goroutines share the increments of one counter. A single one never waits.
func mutex(goroutines uint64, size sizes) float64 {
	var counter struct {
		sync.Mutex
		count uint64
	}
	ns, total := turns(goroutines, size, func(share uint64) {
		for i := uint64(0); i < share; i++ {
			counter.Lock()
			counter.count++
			counter.Unlock()
		}
	})
	check(counter.count == total, "increments were lost")
	return ns
}

// What was read last, so that reading is not optimised away.
var seen atomic.Uint64

// Each of them writes at every 1,000th turn and reads at the others.
func rwlockRead(size sizes) float64 {
	var counter struct {
		sync.RWMutex
		count uint64
	}
	ns, total := turns(sharers, size, func(share uint64) {
		last := uint64(0)
		for turn := uint64(1); turn <= share; turn++ {
			if turn%writeEvery == 0 {
				counter.Lock()
				counter.count++
				counter.Unlock()
			} else {
				counter.RLock()
				last = counter.count
				counter.RUnlock()
			}
		}
		seen.Store(last)
	})
	check(counter.count == total/writeEvery, "writes were lost")
	return ns
}

// turns gives each goroutine its share; it also returns the turns of all runs.
func turns(goroutines uint64, size sizes, one func(share uint64)) (float64, uint64) {
	total := uint64(0)
	ns := pace(goroutines*writeEvery, size.budget, func(n uint64) time.Duration {
		var all sync.WaitGroup
		start := time.Now()
		for i := uint64(0); i < goroutines; i++ {
			all.Add(1)
			go func() {
				defer all.Done()
				one(n / goroutines)
			}()
		}
		all.Wait()
		took := time.Since(start)
		total += n
		return took
	})
	return ns, total
}

// Again and again 1,000 goroutines are started and waited for.
func waitgroup(size sizes) float64 {
	return pace(group, size.budget, func(n uint64) time.Duration {
		var done atomic.Uint64
		start := time.Now()
		for round := uint64(0); round < n/group; round++ {
			var all sync.WaitGroup
			for i := 0; i < group; i++ {
				all.Add(1)
				go func() {
					done.Add(1)
					all.Done()
				}()
			}
			all.Wait()
		}
		took := time.Since(start)
		check(done.Load() == n, "goroutines were lost")
		return took
	})
}
