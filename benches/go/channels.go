package main

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	capacity = 128
	sides    = 4
)

func pingPong(size sizes) float64 {
	ping, pong := make(chan uint64), make(chan uint64)
	count := make(chan uint64)
	go func() {
		seen := uint64(0)
		for value := range ping {
			pong <- value + 1
			seen++
		}
		count <- seen
	}()
	total := uint64(0)
	ns := pace(100, size.budget, func(n uint64) time.Duration {
		start := time.Now()
		for i := uint64(0); i < n; i++ {
			ping <- i
			check(<-pong == i+1, "a wrong answer")
		}
		total += n
		return time.Since(start)
	})
	close(ping)
	check(<-count == total, "round trips were lost")
	return ns
}

func spsc(size sizes) float64 {
	return pace(1_000, size.budget, func(n uint64) time.Duration {
		messages := make(chan uint64, capacity)
		received := make(chan uint64, 1)
		start := time.Now()
		go func() {
			for i := uint64(0); i < n; i++ {
				messages <- i
			}
			close(messages)
		}()
		go func() {
			next := uint64(0)
			for value := range messages {
				check(value == next, "lost or out of order")
				next++
			}
			received <- next
		}()
		count := <-received
		took := time.Since(start)
		check(count == n, "messages were lost")
		return took
	})
}

func mpmc(size sizes) float64 {
	return pace(sides*250, size.budget, func(n uint64) time.Duration {
		share := n / sides
		messages := make(chan uint64, capacity)
		var sum atomic.Uint64
		var producers, consumers sync.WaitGroup
		start := time.Now()
		for side := uint64(0); side < sides; side++ {
			producers.Add(1)
			go func() {
				defer producers.Done()
				for i := uint64(0); i < share; i++ {
					messages <- side*share + i
				}
			}()
			consumers.Add(1)
			go func() {
				defer consumers.Done()
				part := uint64(0)
				for value := range messages {
					// One more, so that the sum counts messages too.
					part += value + 1
				}
				sum.Add(part)
			}()
		}
		producers.Wait()
		close(messages)
		consumers.Wait()
		took := time.Since(start)
		check(sum.Load() == n*(n+1)/2, "messages were lost or doubled")
		return took
	})
}

// The channels stay open: no arm is picked for its end.
func select4(capacity int, size sizes) float64 {
	return pace(sides*250, size.budget, func(n uint64) time.Duration {
		share := n / sides
		var from [sides]chan uint64
		total := make(chan uint64, 1)
		var producers sync.WaitGroup
		start := time.Now()
		for side := range from {
			messages, first := make(chan uint64, capacity), uint64(side)*share
			from[side] = messages
			producers.Add(1)
			go func() {
				defer producers.Done()
				for i := uint64(0); i < share; i++ {
					messages <- first + i
				}
			}()
		}
		go func() {
			a, b, c, d := from[0], from[1], from[2], from[3]
			sum := uint64(0)
			for i := uint64(0); i < n; i++ {
				var value uint64
				select {
				case value = <-a:
				case value = <-b:
				case value = <-c:
				case value = <-d:
				}
				// One more, so that the sum counts messages too.
				sum += value + 1
			}
			total <- sum
		}()
		producers.Wait()
		sum := <-total
		took := time.Since(start)
		check(sum == n*(n+1)/2, "messages were lost or doubled")
		return took
	})
}

// The main goroutine is one of the ring; the token counts its hops.
func ring(size sizes) float64 {
	var hops atomic.Uint64
	var others sync.WaitGroup
	first := make(chan uint64)
	before := first
	for i := uint64(1); i < size.ring; i++ {
		in, out := before, make(chan uint64)
		before = out
		others.Add(1)
		go func() {
			defer others.Done()
			seen := uint64(0)
			for token := range in {
				seen++
				out <- token + 1
			}
			close(out)
			hops.Add(seen)
		}()
	}
	total := uint64(0)
	ns := pace(size.ring, size.budget, func(n uint64) time.Duration {
		start := time.Now()
		token := uint64(0)
		for lap := uint64(0); lap < n/size.ring; lap++ {
			first <- token + 1
			token = <-before
		}
		took := time.Since(start)
		check(token == n, "hops were lost")
		total += n
		return took
	})
	close(first)
	others.Wait()
	check(hops.Load() == total/size.ring*(size.ring-1), "hops were lost")
	return ns
}

// The generator and the filters are left blocked: the process ends here.
func sieve(size sizes) {
	start := time.Now()
	numbers := make(chan uint64)
	go func(out chan<- uint64) {
		for n := uint64(2); ; n++ {
			out <- n
		}
	}(numbers)
	last := uint64(0)
	for i := 0; i < size.primes; i++ {
		prime := <-numbers
		last = prime
		in, out := numbers, make(chan uint64)
		numbers = out
		go func() {
			for n := range in {
				if n%prime != 0 {
					out <- n
				}
			}
		}()
	}
	took := time.Since(start)
	check(last == nthPrime(size.primes), "not the prime it should be")
	metric("total", "ms", took.Seconds()*1e3)
}

func nthPrime(n int) uint64 {
	var primes []uint64
	for candidate := uint64(2); len(primes) < n; candidate++ {
		prime := true
		for _, p := range primes {
			if p*p > candidate {
				break
			}
			if candidate%p == 0 {
				prime = false
				break
			}
		}
		if prime {
			primes = append(primes, candidate)
		}
	}
	return primes[n-1]
}
