// The workloads of strands-bench in Go, line for line what src/blocking does.
//
// Usage: strands-bench-go WORKLOAD. Prints a line per metric, `metric NAME UNIT VALUE`, and
// panics when a result is wrong. GOMAXPROCS sets the processors; STRANDS_BENCH_QUICK asks for the
// sizes of a smoke test.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"time"
)

// How much of each workload is done; src/workload.rs has the same figures.
type sizes struct {
	procs         int
	budget        time.Duration
	ring          uint64
	primes        int
	leaves        uint64
	parkedDense   int
	parkedDefault int
	block         time.Duration
	fresh         int64
	hog           time.Duration
	sleeps        uint64
	idle          time.Duration
	echo          time.Duration
	connections   int
	transfer      int
}

func full() sizes {
	return sizes{
		procs: runtime.GOMAXPROCS(0), budget: 300 * time.Millisecond, ring: 10_000, primes: 2_500,
		leaves: 1_000_000, parkedDense: 1_000_000, parkedDefault: 100_000, block: time.Second,
		fresh: 1_000, hog: 2 * time.Second, sleeps: 100_000, idle: time.Second,
		echo: 2 * time.Second, connections: 10_000, transfer: 100 << 20,
	}
}

func quick() sizes {
	return sizes{
		procs: runtime.GOMAXPROCS(0), budget: 20 * time.Millisecond, ring: 100, primes: 50,
		leaves: 1_000, parkedDense: 1_000, parkedDefault: 1_000, block: 100 * time.Millisecond,
		fresh: 100, hog: 200 * time.Millisecond, sleeps: 1_000, idle: 100 * time.Millisecond,
		echo: 100 * time.Millisecond, connections: 100, transfer: 1 << 20,
	}
}

func main() {
	size := full()
	if _, set := os.LookupEnv("STRANDS_BENCH_QUICK"); set {
		size = quick()
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: strands-bench-go WORKLOAD")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "spawn_join":
		each(spawnJoin(size))
	case "yield_2":
		each(yields(2, size))
	case "yield_1000":
		each(yields(1_000, size))
	case "skynet":
		skynet(size)
	case "ping_pong":
		each(pingPong(size))
	case "spsc_128":
		each(spsc(size))
	case "mpmc_4x4_128":
		each(mpmc(size))
	case "select4_rendezvous":
		each(select4(0, size))
	case "select4_128":
		each(select4(capacity, size))
	case "ring_10000":
		each(ring(size))
	case "sieve":
		sieve(size)
	case "mutex_uncontended":
		each(mutex(1, size))
	case "mutex_4":
		each(mutex(sharers, size))
	case "rwlock_read":
		each(rwlockRead(size))
	case "waitgroup_1000":
		each(waitgroup(size))
	case "context_fanout":
		contextFanout(size.parkedDefault)
	case "parked_1m":
		parked(size.parkedDense)
	case "parked_100k_default":
		parked(size.parkedDefault)
	case "many_sleeps":
		manySleeps(size)
	case "blocked_threads":
		blockedThreads(size)
	case "hog_latency":
		hogLatency(size)
	case "hogs_2":
		hogsBeside(2, size)
	case "hogs_8":
		hogsBeside(8, size)
	case "blocking_sleeps":
		blockingSleeps(size)
	case "skewed":
		skewed(size)
	case "echo":
		echo(size)
	case "idle_connections":
		idleConnections(size)
	case "transfer":
		transfer(size)
	case "idle_cpu":
		idleCPU(size)
	default:
		fmt.Fprintln(os.Stderr, "no workload", os.Args[1])
		os.Exit(2)
	}
}

func metric(name, unit string, value float64) {
	fmt.Printf("metric %s %s %v\n", name, unit, value)
}

func each(ns float64) {
	metric("each", "ns", ns)
}

func check(ok bool, message string) {
	if !ok {
		panic(message)
	}
}

// pace repeats run with growing counts, multiples of step, until one run fills the budget, and
// returns what one operation of that run cost in nanoseconds.
func pace(step uint64, budget time.Duration, run func(n uint64) time.Duration) float64 {
	count := step
	for runs := 1; ; runs++ {
		took := run(count)
		if runs >= 2 && took >= budget {
			return float64(took.Nanoseconds()) / float64(count)
		}
		wanted := budget.Seconds() * 1.2 / max(took.Seconds(), 1e-9)
		grown := uint64(float64(count) * min(max(wanted, 1), 10))
		count = (max(grown, step) + step - 1) / step * step
	}
}

// percentiles prints name_p50 and name_p99 of samples.
func percentiles(name string, samples []time.Duration) {
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	at := func(p float64) float64 {
		rank := int(p*float64(len(samples)-1) + 0.5)
		return float64(samples[rank].Nanoseconds()) / 1e3
	}
	metric(name+"_p50", "µs", at(0.50))
	metric(name+"_p99", "µs", at(0.99))
}
