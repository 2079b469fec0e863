package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// n goroutines wait on one channel; each gets one message.
func parked(n int) {
	for i := 0; i < 100; i++ {
		done := make(chan bool)
		go func() { done <- true }()
		<-done
	}
	var up, woken atomic.Int64
	var all sync.WaitGroup
	messages := make(chan int64)

	before := memory()
	start := time.Now()
	for i := 0; i < n; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			up.Add(1)
			woken.Add(<-messages)
		}()
	}
	for up.Load() < int64(n) {
		time.Sleep(time.Millisecond)
	}
	created := time.Since(start)
	// The last of them has still to get from the counter to the channel.
	time.Sleep(50 * time.Millisecond)
	bytes := memory() - before

	start = time.Now()
	for i := 0; i < n; i++ {
		messages <- 1
	}
	all.Wait()
	ended := time.Since(start)
	check(woken.Load() == int64(n), "goroutines were lost")
	metric("bytes", "B", float64(bytes)/float64(n))
	metric("create", "ns", float64(created.Nanoseconds())/float64(n))
	metric("wake_join", "ns", float64(ended.Nanoseconds())/float64(n))
}

// contextFanout has n goroutines wait for a context, which is then cancelled.
func contextFanout(n int) {
	ctx, cancel := context.WithCancel(context.Background())
	var up atomic.Int64
	var all sync.WaitGroup
	for i := 0; i < n; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			up.Add(1)
			<-ctx.Done()
			check(ctx.Err() != nil, "done, and does not say why")
		}()
	}
	for up.Load() < int64(n) {
		time.Sleep(time.Millisecond)
	}
	// The last of them has still to get from the counter to the context.
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	cancel()
	called := time.Since(start)
	all.Wait()
	ended := time.Since(start)
	metric("call", "ns", float64(called.Nanoseconds())/float64(n))
	metric("each", "ns", float64(ended.Nanoseconds())/float64(n))
}

// manySleeps sleeps twice: the second time with the stacks of the first.
func manySleeps(size sizes) {
	late, used := sleeps(size)
	_, usedAgain := sleeps(size)
	metric("cpu", "s", used)
	metric("cpu_again", "s", usedAgain)
	percentiles("late", late)
}

// sleeps returns how late each was, and the CPU time of all in seconds.
func sleeps(size sizes) ([]time.Duration, float64) {
	cpu := cpuTime()
	late := make([]time.Duration, size.sleeps)
	var all sync.WaitGroup
	for i := range late {
		all.Add(1)
		go func() {
			defer all.Done()
			length := sleepLength(uint64(i))
			start := time.Now()
			time.Sleep(length)
			slept := time.Since(start)
			check(slept >= length, "woken early")
			late[i] = slept - length
		}()
	}
	all.Wait()
	return late, (cpuTime() - cpu).Seconds()
}

// Xorshift64*, seeded by position, as in src/measure.rs.
func sleepLength(position uint64) time.Duration {
	x := (position + 1) * 0x9E37_79B9_7F4A_7C15
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	random := x * 0x2545_F491_4F6C_DD1D >> 33
	return time.Duration(1_000+random%499_001) * time.Microsecond
}

// memory returns the bytes this process holds: resident pages and the page tables that map them.
func memory() int64 {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	total := int64(0)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		for _, key := range []string{"VmRSS:", "VmPTE:"} {
			if rest, found := strings.CutPrefix(lines.Text(), key); found {
				var kib int64
				if _, err := fmt.Sscan(rest, &kib); err != nil {
					panic(err)
				}
				total += kib * 1024
			}
		}
	}
	return total
}

// cpuTime returns the processor time that all threads of this process have used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
