package main

// Pure computation, to see what being able to suspend costs code that does not wait: each task takes n, the amount of work, and
// returns a checksum that depends on nothing else. The guests of the other languages have the same ones.

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// What tasks call by its name.
func work(program func(n int) (uint32, error)) func(payload []byte) (any, error) {
	return func(payload []byte) (any, error) {
		var amount struct{ N int }
		if err := json.Unmarshal(payload, &amount); err != nil {
			return nil, err
		}
		return program(amount.N)
	}
}

// A reproducible sequence (xorshift, 32 bits).
type sequence uint32

func (s *sequence) next() uint32 {
	*s ^= *s << 13
	*s ^= *s >> 17
	*s ^= *s << 5
	return uint32(*s)
}

func fold(sum, value uint32) uint32 { return (sum ^ value) * 0x01000193 }

// The n-th Fibonacci number by plain recursion: nothing but calls.
func fib(n int) (uint32, error) { return fibonacci(uint32(n)), nil }

func fibonacci(n uint32) uint32 {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

// Sorts n numbers with the library's sort and a comparator.
func sortNumbers(n int) (sum uint32, err error) {
	s := sequence(42)
	numbers := make([]uint32, n)
	for i := range numbers {
		numbers[i] = s.next()
	}
	slices.SortFunc(numbers, func(left, right uint32) int {
		return cmp.Or(cmp.Compare(left%1000, right%1000), cmp.Compare(right, left))
	})
	for _, number := range numbers {
		sum = fold(sum, number)
	}
	return sum, nil
}

type order struct {
	Id       uint32  `json:"id"`
	Customer string  `json:"customer"`
	Lines    []line  `json:"lines"`
	Note     *string `json:"note"`
}

type line struct {
	Sku   string  `json:"sku"`
	Price float64 `json:"price"`
	Count uint32  `json:"count"`
}

func orderOf(number uint32) order {
	made := order{Id: number, Customer: fmt.Sprintf("customer %d", number%1000)}
	for at := range number%8 + 1 {
		sku := fmt.Sprintf("SKU-%05d", (number>>at)%100000)
		made.Lines = append(made.Lines, line{sku, float64(number>>(at+3)&0xffff) / 100, at + 1})
	}
	if number%3 == 0 {
		note := `leave it "at the door"`
		made.Note = &note
	}
	return made
}

// Writes and reads n orders as JSON.
func orders(n int) (sum uint32, err error) {
	s := sequence(7)
	for range n {
		text, err := json.Marshal(orderOf(s.next()))
		if err != nil {
			return 0, err
		}
		var read order
		if err := json.Unmarshal(text, &read); err != nil {
			return 0, err
		}
		total := 0.0
		for _, line := range read.Lines {
			total += line.Price * float64(line.Count)
		}
		value := uint32(total*100+0.5) + read.Id
		if read.Note != nil {
			value += uint32(len(*read.Note))
		}
		sum = fold(sum, value)
	}
	return sum, nil
}

// Digests n KiB: one long loop over integers.
func sha256(n int) (sum uint32, err error) {
	state, k := constants()
	s := sequence(3)
	block := make([]byte, 1024)
	for i := range block {
		block[i] = byte(s.next())
	}
	for i := range 16 * n {
		digestBlock(&state, &k, block[i%16*64:][:64])
	}
	for _, word := range state {
		sum = fold(sum, word)
	}
	return sum, nil
}

func constants() (state [8]uint32, k [64]uint32) {
	fraction := func(root float64) uint32 { return uint32((root - math.Floor(root)) * (1 << 32)) }
	for number, found := uint32(2), 0; found < 64; number++ {
		divisor := uint32(2)
		for number%divisor != 0 {
			divisor++
		}
		if divisor < number {
			continue
		}
		if found < 8 {
			state[found] = fraction(math.Sqrt(float64(number)))
		}
		k[found] = fraction(math.Cbrt(float64(number)))
		found++
	}
	return state, k
}

func digestBlock(state *[8]uint32, k *[64]uint32, block []byte) {
	turn := func(x uint32, by int) uint32 { return bits.RotateLeft32(x, -by) }
	var w [64]uint32
	for t := range 16 {
		w[t] = binary.BigEndian.Uint32(block[4*t:])
	}
	for t := 16; t < 64; t++ {
		small0 := turn(w[t-15], 7) ^ turn(w[t-15], 18) ^ w[t-15]>>3
		small1 := turn(w[t-2], 17) ^ turn(w[t-2], 19) ^ w[t-2]>>10
		w[t] = w[t-16] + small0 + w[t-7] + small1
	}
	v := *state
	for t := range 64 {
		big1 := turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)
		choice := v[4]&v[5] ^ ^v[4]&v[6]
		first := v[7] + big1 + choice + k[t] + w[t]
		big0 := turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)
		majority := v[0]&v[1] ^ v[0]&v[2] ^ v[1]&v[2]
		copy(v[1:], v[:7])
		v[4] += first
		v[0] = first + big0 + majority
	}
	for i, word := range v {
		state[i] += word
	}
}

type tree struct{ left, right *tree }

// Builds and drops n trees of 2,047 nodes: nothing but the allocator and the collector.
func trees(n int) (sum uint32, err error) {
	for range n {
		sum = fold(sum, plant(10).count())
	}
	return sum, nil
}

func plant(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{plant(depth - 1), plant(depth - 1)}
}

func (t *tree) count() uint32 {
	if t.left == nil {
		return 1
	}
	return 1 + t.left.count() + t.right.count()
}
