package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The number comes back through a channel: Go has no join handle.
func spawnJoin(size sizes) float64 {
	done := make(chan uint64, 1)
	return pace(16, size.budget, func(n uint64) time.Duration {
		start := time.Now()
		sum := uint64(0)
		for i := uint64(0); i < n; i++ {
			go func() { done <- i }()
			sum += <-done
		}
		took := time.Since(start)
		check(sum == n*(n-1)/2, "results were lost")
		return took
	})
}

func yields(goroutines uint64, size sizes) float64 {
	return pace(goroutines*10, size.budget, func(n uint64) time.Duration {
		share := n / goroutines
		var done atomic.Uint64
		var all sync.WaitGroup
		start := time.Now()
		for i := uint64(0); i < goroutines; i++ {
			all.Add(1)
			go func() {
				defer all.Done()
				for i := uint64(0); i < share; i++ {
					runtime.Gosched()
				}
				done.Add(share)
			}()
		}
		all.Wait()
		took := time.Since(start)
		check(done.Load() == n, "yields were lost")
		return took
	})
}

func skynet(size sizes) {
	start := time.Now()
	result := make(chan uint64, 1)
	go node(result, 0, size.leaves)
	sum := <-result
	took := time.Since(start)
	check(sum == size.leaves*(size.leaves-1)/2, "leaves were lost")
	metric("total", "ms", took.Seconds()*1e3)
}

func node(parent chan<- uint64, first, size uint64) {
	if size == 1 {
		parent <- first
		return
	}
	results := make(chan uint64, 10)
	for child := uint64(0); child < 10; child++ {
		go node(results, first+child*(size/10), size/10)
	}
	sum := uint64(0)
	for i := 0; i < 10; i++ {
		sum += <-results
	}
	parent <- sum
}
