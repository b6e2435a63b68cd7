package main

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"time"
	"unsafe"
)

// The waits of a run: at most as many as asked for, of the kind asked for, each leaving its trace.
type pauses struct {
	left, done int
	mode       string
	length     time.Duration
	digest     hash.Hash64
}

func newPauses(count int, mode string, ms float64) *pauses {
	return &pauses{left: count, mode: mode, length: time.Duration(ms * float64(time.Millisecond)), digest: fnv.New64a()}
}

func (p *pauses) see(number uint64) {
	p.digest.Write(binary.LittleEndian.AppendUint64(nil, number))
}

func (p *pauses) seeText(text string) {
	p.digest.Write([]byte(text))
}

// Waits if a wait is left, and notes what was seen before and after it.
func (p *pauses) pause(seen uint64) {
	if p.left == 0 {
		return
	}
	p.left--
	p.done++
	number := p.done
	p.see(seen)
	fmt.Printf("pause %d: %016x\n", number, seen)
	p.wait(number)
	p.see(seen ^ uint64(number))
	if number%7 == 0 {
		telemetryLog(2, "woken", fmt.Sprintf(`{"number":%d,"digest":"%016x"}`, number, p.digest.Sum64()), 0, 0)
	}
}

func (p *pauses) wait(number int) {
	if p.mode == "sleep" || p.mode == "mixed" && number%2 == 1 {
		time.Sleep(p.length)
		return
	}
	var result waitResult
	if number%4 == 0 {
		at := time.Now().Add(p.length).UnixMilli()
		waitUntil(uint64(at), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, unsafe.Pointer(&result))
	} else {
		waitForDuration(uint64(p.length.Milliseconds()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, unsafe.Pointer(&result))
	}
	result.check()
}
