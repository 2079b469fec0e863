package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const tick = 5 * time.Millisecond

// blockThread blocks the OS thread: time.Sleep would park the goroutine.
func blockThread(length time.Duration) {
	left := syscall.NsecToTimespec(length.Nanoseconds())
	for {
		// The kernel writes what is left when a signal (Go's own, to preempt) cuts the sleep short.
		_, _, errno := syscall.Syscall(syscall.SYS_NANOSLEEP,
			uintptr(unsafe.Pointer(&left)), uintptr(unsafe.Pointer(&left)), 0)
		if errno != syscall.EINTR {
			check(errno == 0, "nanosleep")
			return
		}
	}
}

func blockedThreads(size sizes) {
	var blocked, done, blockersDone atomic.Int64
	var all sync.WaitGroup
	for i := 0; i < 2*size.procs; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			blocked.Add(1)
			blockThread(size.block)
			blockersDone.Add(1)
		}()
	}
	// From the moment when every processor is held.
	for blocked.Load() < int64(size.procs) {
		time.Sleep(50 * time.Microsecond)
	}

	var took atomic.Int64
	start := time.Now()
	for i := int64(0); i < size.fresh; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if done.Add(1) == size.fresh {
				took.Store(time.Since(start).Nanoseconds())
			}
		}()
	}
	all.Wait()
	check(done.Load() == size.fresh, "goroutines were lost")
	check(blockersDone.Load() == int64(2*size.procs), "blockers were lost")
	metric("all_done", "ms", float64(took.Load())/1e6)
}

// The main goroutine needs a processor to start the fresh ones, so its own wait for one shows in
// since_due, not in delay.
func hogLatency(size sizes) {
	var stop atomic.Bool
	var hogging atomic.Int64
	var hogs sync.WaitGroup
	for i := 0; i < size.procs; i++ {
		hogs.Add(1)
		go func() {
			defer hogs.Done()
			hogging.Add(1)
			x := uint64(1)
			for !stop.Load() {
				for i := 0; i < 1_000; i++ {
					x *= 3
				}
			}
			runtime.KeepAlive(x)
		}()
	}
	for hogging.Load() < int64(size.procs) {
		time.Sleep(50 * time.Microsecond)
	}

	began := time.Now()
	ticks := int(size.hog / tick)
	delays := make([]time.Duration, ticks)
	sinceDue := make([]time.Duration, ticks)
	var fresh sync.WaitGroup
	for i := range delays {
		due := began.Add(time.Duration(i+1) * tick)
		time.Sleep(time.Until(due))
		spawned := time.Now()
		fresh.Add(1)
		go func() {
			defer fresh.Done()
			delays[i] = time.Since(spawned)
			sinceDue[i] = time.Since(due)
		}()
	}
	stop.Store(true)
	fresh.Wait()
	hogs.Wait()
	percentiles("delay", delays)
	percentiles("since_due", sinceDue)
}

func idleCPU(size sizes) {
	spawnJoin(size)
	pingPong(size)
	yields(1_000, size)
	// The kernel books what a thread has used when it stops running, or at a tick, of 4 ms.
	time.Sleep(10 * time.Millisecond)
	cpu := cpuTime()
	time.Sleep(size.idle)
	metric("cpu", "µs", float64((cpuTime()-cpu).Nanoseconds())/1e3)
}
