package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// What src/blocking/held.rs has, too.
const (
	warmUp       = 50 * time.Millisecond
	sleepers     = 8
	ticker       = time.Millisecond
	heavyEvery   = 51
	heavy        = 20 * time.Millisecond
	light        = 10 * time.Microsecond
	arrivesEvery = 350 * time.Microsecond
	lightWaits   = 200 * time.Microsecond
)

func computeUntil(done func() bool) {
	x := uint64(1)
	for !done() {
		for i := 0; i < 1_000; i++ {
			x *= 3
		}
	}
	runtime.KeepAlive(x)
}

func computeFor(length time.Duration) {
	begun := time.Now()
	x := uint64(1)
	for time.Since(begun) < length {
		for i := 0; i < 100; i++ {
			x *= 3
		}
	}
	runtime.KeepAlive(x)
}

func startHogs(count int, stop *atomic.Bool) *sync.WaitGroup {
	var hogs sync.WaitGroup
	for i := 0; i < count; i++ {
		hogs.Add(1)
		go func() {
			defer hogs.Done()
			computeUntil(stop.Load)
		}()
	}
	return &hogs
}

// The main goroutine needs a processor to start the fresh ones and to send; its own wait for one shows.
func hogsBeside(count int, size sizes) {
	var early atomic.Bool
	hogs := startHogs(1, &early)
	time.Sleep(warmUp)
	early.Store(true)
	hogs.Wait()

	due := make(chan time.Time, 1_024)
	var delays []time.Duration
	var ready, rest sync.WaitGroup
	ready.Add(1)
	go func() {
		defer ready.Done()
		for moment := range due {
			delays = append(delays, time.Since(moment))
		}
	}()
	var stop atomic.Bool
	var units atomic.Int64
	rest.Add(1)
	go func() {
		defer rest.Done()
		for !stop.Load() {
			computeFor(2 * light)
			units.Add(1)
			runtime.Gosched()
		}
	}()
	time.Sleep(tick)
	hogs = startHogs(count, &stop)
	time.Sleep(warmUp)

	first, from := units.Load(), time.Now()
	ticks := int(size.hog / tick)
	fresh := make([]time.Duration, ticks)
	var all sync.WaitGroup
	for i := range fresh {
		moment := from.Add(time.Duration(i+1) * tick)
		time.Sleep(time.Until(moment))
		all.Add(1)
		go func() {
			defer all.Done()
			fresh[i] = time.Since(moment)
		}()
		due <- moment
	}
	unit := time.Since(from).Seconds() * 1e6 / float64(max(units.Load()-first, 1))
	stop.Store(true)
	close(due)
	all.Wait()
	ready.Wait()
	rest.Wait()
	hogs.Wait()
	check(len(delays) == ticks, "messages were lost")
	percentiles("fresh", fresh)
	percentiles("ready", delays)
	metric("unit_of_rest", "µs", unit)
}

func blockingSleeps(size sizes) {
	sleep := func(length time.Duration) {
		var all sync.WaitGroup
		for i := 0; i < sleepers; i++ {
			all.Add(1)
			go func() {
				defer all.Done()
				blockThread(length)
			}()
		}
		all.Wait()
	}
	sleep(warmUp)

	var stop atomic.Bool
	var worst time.Duration
	var ticking sync.WaitGroup
	ticking.Add(1)
	go func() {
		defer ticking.Done()
		for !stop.Load() {
			due := time.Now().Add(ticker)
			time.Sleep(ticker)
			worst = max(worst, time.Since(due))
		}
	}()
	time.Sleep(warmUp)
	began := time.Now()
	sleep(size.block)
	wall := time.Since(began)
	stop.Store(true)
	ticking.Wait()
	metric("wall", "ms", wall.Seconds()*1e3)
	metric("worst_tick", "ms", worst.Seconds()*1e3)
}

func skewed(size sizes) {
	serve := func(count int) []time.Duration {
		began := time.Now()
		took := make([]time.Duration, count)
		var all sync.WaitGroup
		for i := range took {
			due := began.Add(time.Duration(i+1) * arrivesEvery)
			time.Sleep(time.Until(due))
			all.Add(1)
			go func() {
				defer all.Done()
				if (i+1)%heavyEvery == 0 {
					computeFor(heavy)
					return
				}
				computeFor(light)
				time.Sleep(lightWaits)
				computeFor(light)
				took[i] = time.Since(due)
			}()
		}
		all.Wait()
		lights := took[:0]
		for _, each := range took {
			if each > 0 {
				lights = append(lights, each)
			}
		}
		return lights
	}
	serve(4 * heavyEvery)
	count := int(size.hog / arrivesEvery)
	lights := serve(count)
	check(len(lights) == count-count/heavyEvery, "requests were lost")
	percentiles("light", lights)
}
