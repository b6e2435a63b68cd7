package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/big"
	"math/bits"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// One function for each kind of call stack and state that a wait may find. Every value that lives across a wait goes into the
// digest after it.
var scenes = []struct {
	name string
	play func(*pauses, int) uint64
}{
	{"recursion", func(p *pauses, round int) uint64 { return recursion(p, 1+round%40, uint64(round)) }},
	{"ackermann", func(p *pauses, round int) uint64 { return ackermann(p, 2, uint64(round%3+1)) }},
	{"numbers", numbers},
	{"sort", sorting},
	{"iterators", iterators},
	{"interfaces", interfaces},
	{"collections", collections},
	{"formatting", formatting},
	{"largeFrame", largeFrame},
	{"panics", panics},
	{"goroutines", goroutines},
	{"timers", timers},
}

// A frame with a text, a slice and a float in each of depth calls; the stack grows, and moves, on the way.
func recursion(p *pauses, depth int, seed uint64) uint64 {
	text := fmt.Sprint("level ", depth)
	ratio := float64(seed) / float64(depth+1)
	marks := []uint64{seed, uint64(depth)}
	below := seed
	if depth == 0 {
		p.pause(seed)
	} else {
		below = recursion(p, depth-1, seed*31+uint64(depth))
	}
	if depth%8 == 0 {
		p.pause(below)
	}
	p.seeText(text)
	return bits.RotateLeft64(below, depth) ^ math.Float64bits(ratio) ^ marks[0]*7 ^ marks[1]
}

// Recursion in argument position.
func ackermann(p *pauses, m, n uint64) uint64 {
	switch {
	case m == 0:
		p.pause(n)
		return n + 1
	case n == 0:
		return ackermann(p, m-1, 1)
	}
	return n*1000 + ackermann(p, m-1, ackermann(p, m, n-1)%5) + m
}

func numbers(p *pauses, round int) uint64 {
	x, y := math.Sqrt(float64(round)), math.Sin(float64(round))
	small, turned := int16(round), complex(x, y)
	wide := new(big.Int).Lsh(big.NewInt(int64(round)), 200)
	for step := 1; step <= 4; step++ {
		p.pause(math.Float64bits(x))
		x, y = x*1.5+y, y-x/float64(step)
		turned *= complex(0, float64(step))
		small = small*7 - 13
		wide.Mul(wide, big.NewInt(7)).Xor(wide, big.NewInt(int64(small)))
		p.pause(uint64(small))
	}
	p.seeText(fmt.Sprint(x, y, turned, wide, small, float32(x)))
	return wide.Uint64()
}

// Waits inside comparators, below the frames of the standard library's sorts.
func sorting(p *pauses, round int) uint64 {
	values := make([]int, 48)
	for i := range values {
		values[i] = (i*7_919 + round*104_729) % 1_009
	}
	comparisons := uint64(0)
	sort.Slice(values, func(i, j int) bool {
		comparisons++
		if comparisons%50 == 0 {
			p.pause(comparisons<<32 | uint64(values[i]))
		}
		return values[i] < values[j]
	})
	slices.SortStableFunc(values, func(left, right int) int {
		comparisons++
		if comparisons%97 == 0 {
			p.pause(uint64(left))
		}
		return right%100 - left%100
	})
	if !slices.IsSortedFunc(values, func(left, right int) int { return right%100 - left%100 }) {
		panic("the values are not sorted")
	}
	sum := comparisons
	for _, value := range values {
		sum = sum*31 + uint64(value)
	}
	return sum
}

func counted(p *pauses, from, to int) iter.Seq[int] {
	return func(yield func(int) bool) {
		defer p.pause(uint64(to))
		for at := from; at < to; at++ {
			p.pause(uint64(at))
			if !yield(at * 2) {
				return
			}
		}
	}
}

// Functions to range over, and such as are pulled from, which run as coroutines.
func iterators(p *pauses, round int) uint64 {
	sum := uint64(round)
	for value := range counted(p, 1, 4) {
		sum = sum*3 + uint64(value)
	}
	for value := range counted(p, 10, 20) {
		if value > 22 {
			break
		}
		p.pause(uint64(value))
	}
	next, stop := iter.Pull(counted(p, round, round+5))
	first, _ := next()
	p.pause(uint64(first))
	second, _ := next()
	stop()
	collected := slices.Collect(counted(p, 0, 3))
	return sum + uint64(first*100+second*10+len(collected))
}

type player interface{ play(p *pauses) uint64 }

type counter struct{ count uint64 }

func (c *counter) play(p *pauses) uint64 {
	p.pause(c.count)
	c.count++
	return c.count
}

type chorus []player

func (c chorus) play(p *pauses) uint64 {
	sum := uint64(1)
	for _, player := range c {
		sum = sum*3 + player.play(p)
	}
	return sum
}

type called func(p *pauses) uint64

func (c called) play(p *pauses) uint64 { return c(p) }

// Calls through interfaces, method values and closures.
func interfaces(p *pauses, round int) uint64 {
	heard := []uint64{uint64(round)}
	listener := called(func(p *pauses) uint64 {
		heard = append(heard, uint64(len(heard)))
		p.pause(uint64(len(heard)))
		return heard[len(heard)-1]
	})
	all := chorus{&counter{1}, chorus{&counter{uint64(round)}, listener}, &counter{2}}
	bound := all.play
	return all.play(p) + bound(p)*2 + chorus.play(all, p)*3
}

// A map's order differs from run to run, so only sums of it count.
func collections(p *pauses, round int) uint64 {
	counts := map[string]int{}
	for i := range 12 {
		counts[fmt.Sprint("key ", i*round%5)] += i
		if i%4 == 0 {
			p.pause(uint64(i))
		}
	}
	sum := 0
	for key, count := range counts {
		p.pause(uint64(len(counts)))
		sum += len(key) * count
	}
	keys := slices.Sorted(maps.Keys(counts))
	third := slices.IndexFunc(keys, func(key string) bool {
		p.pause(uint64(counts[key]))
		return key == "key 3"
	})
	p.seeText(strings.Join(keys, ","))
	return uint64(sum + third)
}

type shown struct {
	p     *pauses
	round int
}

func (s shown) String() string {
	s.p.pause(uint64(s.round))
	return fmt.Sprintf("<%.2f|%#x>", float64(s.round)/7, s.round)
}

func (s shown) MarshalJSON() ([]byte, error) {
	s.p.pause(uint64(s.round) + 1)
	return json.Marshal(map[string]int{"round": s.round})
}

func (s *shown) UnmarshalJSON(data []byte) error {
	s.p.pause(uint64(len(data)))
	s.round = len(data)
	return nil
}

// Waits in what the standard library calls, by reflection too, while it formats, parses and replaces.
func formatting(p *pauses, round int) uint64 {
	text := fmt.Sprintf("%v and %30s, %v", shown{p, round}, shown{p, round + 1}, []fmt.Stringer{shown{p, 3}})
	encoded, err := json.Marshal([]any{shown{p, round}, "\U0001F400", map[string]any{"inner": shown{p, 9}}})
	if err != nil {
		panic(err)
	}
	read := []shown{{p: p}, {p: p}}
	if err := json.Unmarshal([]byte(`[{"a":1},[2,3]]`), &read); err != nil {
		panic(err)
	}
	replaced := regexp.MustCompile(`\d+`).ReplaceAllStringFunc(text, func(digits string) string {
		p.pause(uint64(len(digits)))
		return "[" + digits + "]"
	})
	p.seeText(replaced + string(encoded))
	return uint64(len(replaced) + read[0].round*10 + read[1].round)
}

// Locals too large for registers, written before and read after the wait.
func largeFrame(p *pauses, round int) uint64 {
	var table [2_048]uint32
	for at := range table {
		table[at] = uint32(at)*2_654_435_761 + uint32(round)
	}
	p.pause(uint64(table[round%len(table)]))
	table[7] ^= uint32(recursion(p, 2, 9))
	sum := uint64(0)
	for _, cell := range table {
		sum = bits.RotateLeft64(sum, 5) ^ uint64(cell)
	}
	return sum
}

var errRefused = errors.New("refused")

// Waits in deferred functions, while a panic goes through them, and after it was recovered.
func panics(p *pauses, round int) (sum uint64) {
	attempt := func(number int) (result uint64, err error) {
		defer p.pause(uint64(number))
		defer func() {
			if value := recover(); value != nil {
				p.pause(99)
				err = fmt.Errorf("%w: %v", errRefused, value)
			}
		}()
		defer func() { p.pause(uint64(number) + 100) }()
		var none []int
		switch number % 3 {
		case 0:
			panic("on purpose")
		case 1:
			return uint64(none[number]), nil
		}
		return uint64(number), nil
	}
	for number := round; number < round+3; number++ {
		result, err := attempt(number)
		sum += result
		if errors.Is(err, errRefused) {
			p.seeText(err.Error())
			sum += 1_000
		}
	}
	return sum
}

// Goroutines that are blocked in every way while one waits, and that wait themselves, one after the other.
func goroutines(p *pauses, round int) uint64 {
	var lock sync.Mutex
	var group sync.WaitGroup
	requests, answers := make(chan uint64), make(chan uint64, 2)
	never := make(chan struct{})
	sum := uint64(0)
	group.Go(func() {
		for request := range requests {
			p.pause(request)
			answers <- request * 2
		}
		close(answers)
	})
	lock.Lock()
	group.Go(func() {
		lock.Lock()
		defer lock.Unlock()
		p.pause(sum)
	})
	group.Go(func() {
		select {
		case <-never:
		case <-time.After(time.Hour):
			panic("this hour never passes")
		}
	})
	for i := range 3 {
		p.pause(uint64(i))
		requests <- uint64(i + round)
		sum = sum*31 + <-answers
	}
	close(requests)
	p.pause(sum)
	close(never)
	lock.Unlock()
	group.Wait()
	return sum
}

// Timers, tickers and contexts that are far from due while the run waits.
func timers(p *pauses, round int) uint64 {
	bounded, cancel := context.WithTimeout(context.Background(), time.Hour)
	ticker := time.NewTicker(30 * time.Minute)
	fired := uint64(0)
	far := time.AfterFunc(2*time.Hour, func() { fired += 1_000 })
	afterwards := make(chan struct{})
	context.AfterFunc(bounded, func() {
		p.pause(7)
		close(afterwards)
	})
	p.pause(uint64(round))
	if bounded.Err() != nil || len(ticker.C) > 0 {
		fired += 10
	}
	p.pause(fired)
	ticker.Stop()
	if far.Stop() {
		fired++
	}
	cancel()
	<-afterwards
	return fired
}
