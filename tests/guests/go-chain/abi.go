package main

// The canonical ABI, by hand: memory that crosses the border between guest and host, and the functions on both sides of it.

import (
	"fmt"
	"unsafe"
)

// The host asks for memory before the runtime is there to give any: the adapter for preview 1 keeps its own state in it.
var early [160 << 10]byte
var earlyUsed uintptr
var isRunning bool

func init() { isRunning = true }

// What the host holds addresses of, so that the collector leaves it where it is.
var held [][]uint64

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if isRunning {
		block := allocate(uintptr(size))
		if old != nil {
			copy(unsafe.Slice((*byte)(block), size), unsafe.Slice((*byte)(old), oldSize))
		}
		return block
	}
	base := uintptr(unsafe.Pointer(&early[0]))
	start := (base + earlyUsed + uintptr(align) - 1) &^ (uintptr(align) - 1)
	earlyUsed = start + uintptr(size) - base
	if earlyUsed > uintptr(len(early)) {
		panic("the adapter needs more memory than is set aside for it")
	}
	return unsafe.Pointer(&early[start-base])
}

// Memory for the host, zeroed and aligned to 8 bytes, which is the most that any type here asks for.
func allocate(size uintptr) unsafe.Pointer {
	block := make([]uint64, size/8+1)
	held = append(held, block)
	return unsafe.Pointer(&block[0])
}

// A string, or a list of bytes, as it lies in memory: its address and its length.
type text struct {
	data   uint32
	length uint32
}

func share(value string) text {
	data := allocate(uintptr(len(value)))
	copy(unsafe.Slice((*byte)(data), len(value)), value)
	return text{uint32(uintptr(data)), uint32(len(value))}
}

type optionalText struct {
	isSome uint32
	value  text
}

// The fields of wit/tasks.wit in its order, with the padding that 64-bit fields bring about.

type bundleDefinition struct {
	sdk               text
	tasks             text
	queues            text
	concurrencyLimits text
}

type taskDefinition struct {
	id                text
	kind              uint32
	description       optionalText
	source            optionalText
	_                 uint32
	retryIsSome       uint64
	retryMaxAttempts  uint64
	retryFactor       float64
	retryMinTimeoutMs uint64
	retryMaxTimeoutMs uint64
	retryRandomize    uint32
	retryOnMachine    optionalText
	queue             optionalText
	concurrencyLimits text
	machine           optionalText
	maxDurationMs     [2]uint64
	ttlMs             [2]uint64
	schedule          [6]uint64
	payloadSchema     optionalText
	hooks             uint32
}

// `result<packet, task-error>`
type outcome struct {
	isError uint64
	// The packet's data, or a failure-reason and the tag of a run-error.
	first text
	// The packet's type, or what was thrown: a text, or the exception's name.
	second    text
	message   text
	trace     text
	causes    text
	retry     uint64
	retryTime uint64
}

//go:wasmexport dormouse:task/tasks@0.1.0#describe
func exportDescribe() unsafe.Pointer {
	definitions := unsafe.Slice((*taskDefinition)(allocate(uintptr(len(tasks))*unsafe.Sizeof(taskDefinition{}))), len(tasks))
	for at, task := range tasks {
		definition := &definitions[at]
		definition.id = share(task.id)
		if task.description != "" {
			definition.description = optionalText{1, share(task.description)}
		}
		definition.retryIsSome = 1
		definition.retryMaxAttempts = 1
		definition.retryFactor = 2
		definition.retryMinTimeoutMs = 1_000
		definition.retryMaxTimeoutMs = 60_000
	}
	bundle := (*bundleDefinition)(allocate(unsafe.Sizeof(bundleDefinition{})))
	bundle.sdk = share("go/0.1.0")
	bundle.tasks = text{uint32(uintptr(unsafe.Pointer(unsafe.SliceData(definitions)))), uint32(len(definitions))}
	return unsafe.Pointer(bundle)
}

//go:wasmexport dormouse:task/tasks@0.1.0#run
func exportRun(id *byte, idLength uint32, payload *byte, payloadLength uint32, _ *byte, _ uint32) unsafe.Pointer {
	answer := (*outcome)(allocate(unsafe.Sizeof(outcome{})))
	output, failure := perform(unsafe.String(id, idLength), unsafe.Slice(payload, payloadLength))
	if failure == nil {
		answer.first, answer.second = share(string(output)), share("application/json")
		return unsafe.Pointer(answer)
	}
	answer.isError = 1
	answer.first = text{failure.reason, runErrorException}
	answer.second = share(fmt.Sprintf("%T", failure.cause))
	answer.message = share(failure.cause.Error())
	return unsafe.Pointer(answer)
}

// The tag of run-error.exception.
const runErrorException = 0

// --- what the host offers

//go:wasmimport dormouse:task/wait@0.1.0 for-duration
func waitForDuration(ms uint64, hasKey uint32, key, keyLength uint32, hasTtl uint32, ttl uint64, hasUserKey, userKey, userKeyLength,
	hasScope, scope uint32, result unsafe.Pointer)

//go:wasmimport dormouse:task/wait@0.1.0 until
func waitUntil(at uint64, hasKey uint32, key, keyLength uint32, hasTtl uint32, ttl uint64, hasUserKey, userKey, userKeyLength,
	hasScope, scope uint32, result unsafe.Pointer)

//go:wasmimport dormouse:task/telemetry@0.1.0 log
func telemetryLog(level uint32, message string, attributes string, hasParent uint32, parent uint64)

// `result<_, host-error>`
type waitResult struct {
	isError uint64
	code    uint32
	message text
	_       [5]uint32
}

func (result *waitResult) check() {
	if result.isError&0xff != 0 {
		message := unsafe.String((*byte)(unsafe.Pointer(uintptr(result.message.data))), result.message.length)
		panic(fmt.Sprintf("the wait failed with %d: %s", result.code&0xff, message))
	}
}
