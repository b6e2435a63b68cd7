// The guest that the tests suspend and restore at every wait: the same idea as rust-chain, below the frames of Go's scheduler.
// Experimental: Go knows no components, and its module for preview 1 of WASI is made one by an adapter.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Not called: the host calls what is exported.
func main() {}

type task struct {
	id          string
	description string
	run         func(payload []byte) (any, error)
}

var tasks = []task{
	{"chain", "Waits n times from every kind of stack", runChain},
	{"fib", "", work(fib)},
	{"sort", "", work(sortNumbers)},
	{"json", "", work(orders)},
	{"sha256", "", work(sha256)},
	{"trees", "", work(trees)},
	{"echo", "", func(payload []byte) (any, error) { return json.RawMessage(payload), nil }},
}

// The values of failure-reason in wit/tasks.wit.
const (
	thrown      = 0
	unknownTask = 1
	badInput    = 2
)

type taskFailure struct {
	reason uint32
	cause  error
}

// Runs the task; a panic is its failure.
func perform(id string, payload []byte) (output []byte, failure *taskFailure) {
	defer func() {
		if value := recover(); value != nil {
			failure = &taskFailure{thrown, fmt.Errorf("panic: %v", value)}
		}
	}()
	for _, task := range tasks {
		if task.id != id {
			continue
		}
		value, err := task.run(payload)
		if err == nil {
			output, err = json.Marshal(value)
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, &taskFailure{badInput, err}
		}
		if err != nil {
			return nil, &taskFailure{thrown, err}
		}
		return output, nil
	}
	return nil, &taskFailure{unknownTask, fmt.Errorf("there is no task %q", id)}
}

type chain struct {
	// How many waits.
	N int `json:"n"`
	// "wait", "sleep" or "mixed".
	Mode string `json:"mode"`
	// Milliseconds that each takes.
	Ms *float64 `json:"ms"`
	// Only this scene, to look into it.
	Scene string `json:"scene"`
}

type seen struct {
	Digest string   `json:"digest"`
	Waits  int      `json:"waits"`
	Rounds int      `json:"rounds"`
	Words  []string `json:"words"`
}

// Goes through all scenes until the waits are used up. What it returns depends on n alone.
func runChain(payload []byte) (any, error) {
	var asked chain
	if err := json.Unmarshal(payload, &asked); err != nil {
		return nil, err
	}
	ms := 1.0
	if asked.Ms != nil {
		ms = *asked.Ms
	}
	p := newPauses(asked.N, asked.Mode, ms)
	words := []string{"dormouse"}
	rounds := 0
	for p.left > 0 {
		rounds++
		for _, scene := range scenes {
			if asked.Scene == "" || asked.Scene == scene.name {
				p.seeText(scene.name)
				p.see(scene.play(p, rounds))
			}
		}
		words = append(words, fmt.Sprintf("%d-%d", len(words[len(words)-1]), rounds))
		p.seeText(words[len(words)-1])
		fmt.Printf("round %d done after %d waits\n", rounds, p.done)
	}
	fmt.Fprintln(os.Stderr, len(words), "words at the end")
	return seen{fmt.Sprintf("%016x", p.digest.Sum64()), p.done, rounds, words}, nil
}
