// The truth program in Go; see truth.c for its arguments and for what it says. With `profile` in place of `calls` it takes
// its own CPU profile as well, and says that in base64 as `pprof`.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

const (
	processCPU = 2
	threadCPU  = 3
	// About half a millisecond; a leaf runs from half of it to one and a half.
	rounds = 300000
)

const (
	sixty = iota
	thirty
	ten
	bottom
	compare
	threaded
	panicking
	caught
	signalled
	leaves
)

var names = [leaves]string{
	"truth_sixty", "truth_thirty", "truth_ten", "truth_bottom", "truth_compare", "truth_threaded",
	"truth_panicking", "truth_caught", "truth_signalled",
}

var spentNs [leaves]int64
var calls int64

func clockNs(clock uintptr) int64 {
	var time syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&time)), 0)
	return time.Nano()
}

var drawn uint64 = 1

// Never twice the same: leaves that take turns at one pace may fall into step with who samples them.
func some() int {
	drawn = drawn*6364136223846793005 + 1442695040888963407
	return rounds/2 + int((drawn>>33)%rounds)
}

// Counts what this thread's clock has gone on; the goroutine stays on its thread.
func timed(leaf int, beforeNs int64) {
	spentNs[leaf] += clockNs(threadCPU) - beforeNs
	calls++
}

//go:noinline
func truth_sixty(rounds int) uint64 {
	value := uint64(61)
	for ; rounds > 0; rounds-- {
		value = value*6364136223846793005 + 61
	}
	return value
}

//go:noinline
func truth_thirty(rounds int) uint64 {
	value := uint64(31)
	for ; rounds > 0; rounds-- {
		value = value*6364136223846793005 + 31
	}
	return value
}

//go:noinline
func truth_ten(rounds int) uint64 {
	value := uint64(11)
	for ; rounds > 0; rounds-- {
		value = value*6364136223846793005 + 11
	}
	return value
}

//go:noinline
func truth_bottom(rounds int) uint64 {
	value := uint64(101)
	for ; rounds > 0; rounds-- {
		value = value*6364136223846793005 + 101
	}
	return value
}

//go:noinline
func truth_threaded(rounds int) uint64 {
	value := uint64(21)
	for ; rounds > 0; rounds-- {
		value = value*6364136223846793005 + 21
	}
	return value
}

//go:noinline
func truth_signalled(rounds int) uint64 {
	value := uint64(41)
	for ; rounds > 0; rounds-- {
		value = value*6364136223846793005 + 41
	}
	return value
}

//go:noinline
func truth_caught(rounds int) uint64 {
	value := uint64(91)
	for ; rounds > 0; rounds-- {
		value = value*6364136223846793005 + 91
	}
	return value
}

//go:noinline
func truth_step() {
	total := spentNs[sixty] + spentNs[thirty] + spentNs[ten]
	before := clockNs(threadCPU)
	if 10*spentNs[sixty] <= 6*total {
		truth_sixty(some())
		timed(sixty, before)
	} else if 10*spentNs[thirty] <= 3*total {
		truth_thirty(some())
		timed(thirty, before)
	} else {
		truth_ten(some())
		timed(ten, before)
	}
}

//go:noinline
func truth_shares(budgetNs int64) {
	for end := clockNs(threadCPU) + budgetNs; clockNs(threadCPU) < end; {
		truth_step()
	}
}

//go:noinline
func truth_deep(depth int) uint64 {
	if depth > 1 {
		return truth_deep(depth-1) + 1
	}
	return truth_bottom(some())
}

//go:noinline
func truth_recursion(budgetNs int64) {
	for end := clockNs(threadCPU) + budgetNs; clockNs(threadCPU) < end; {
		before := clockNs(threadCPU)
		truth_deep(100)
		timed(bottom, before)
	}
}

type values []uint32

func (v values) Len() int      { return len(v) }
func (v values) Swap(i, j int) { v[i], v[j] = v[j], v[i] }
func (v values) Less(i, j int) bool {
	return truth_compare(v[i], v[j])
}

var kept uint64

//go:noinline
func truth_compare(one, other uint32) bool {
	value := uint64(71)
	for round := rounds / 200; round > 0; round-- {
		value = value*6364136223846793005 + 71
	}
	kept = value
	return one < other
}

//go:noinline
func truth_callback(budgetNs int64) {
	list := make(values, 64)
	for end := clockNs(threadCPU) + budgetNs; clockNs(threadCPU) < end; {
		for at := range list {
			list[at] = uint32(at) * 2654435761
		}
		before := clockNs(threadCPU)
		sort.Sort(list)
		timed(compare, before)
	}
}

//go:noinline
func truth_thread(budgetNs int64, done chan bool) {
	runtime.LockOSThread()
	for end := clockNs(threadCPU) + budgetNs; clockNs(threadCPU) < end; {
		before := clockNs(threadCPU)
		truth_threaded(some())
		timed(threaded, before)
	}
	done <- true
}

//go:noinline
func truth_threads(budgetNs int64) {
	done := make(chan bool)
	go truth_thread(budgetNs, done)
	<-done
}

// Go hands signals to a goroutine.
//
//go:noinline
func truth_receiver(signals chan os.Signal, done chan bool) {
	runtime.LockOSThread()
	for range signals {
		before := clockNs(threadCPU)
		truth_signalled(some())
		timed(signalled, before)
		done <- true
	}
}

var signals = make(chan os.Signal, 1)
var received = make(chan bool)

//go:noinline
func truth_signals(budgetNs int64) {
	begin := spentNs[signalled]
	for spentNs[signalled]-begin < budgetNs {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		<-received
	}
}

//go:noinline
func truth_panicking(rounds int) {
	value := uint64(81)
	for round := rounds; round > 0; round-- {
		value = value*6364136223846793005 + 81
	}
	kept = value
	if rounds > 0 {
		panic("as it is meant")
	}
}

//go:noinline
func truth_panics() {
	defer truth_recovers()
	truth_panicking(some())
}

//go:noinline
func truth_recovers() {
	recover()
}

//go:noinline
func truth_unwinds(budgetNs int64) {
	for end := clockNs(threadCPU) + budgetNs; clockNs(threadCPU) < end; {
		before := clockNs(threadCPU)
		truth_panics()
		timed(panicking, before)
		before = clockNs(threadCPU)
		truth_caught(some())
		timed(caught, before)
	}
}

//go:noinline
func truth_pass(sliceNs int64, onlyShares bool) {
	if onlyShares {
		truth_shares(sliceNs)
		return
	}
	truth_shares(sliceNs / 2)
	truth_recursion(sliceNs / 12)
	truth_callback(sliceNs / 12)
	truth_threads(sliceNs / 12)
	truth_signals(sliceNs / 12)
	truth_unwinds(sliceNs / 12)
}

// Carries what was counted over the exec.
//
//go:noinline
func truth_again(beginNs int64) {
	soFar := fmt.Sprint(beginNs, calls)
	for _, ns := range spentNs {
		soFar += fmt.Sprint(" ", ns)
	}
	err := syscall.Exec(os.Args[0], os.Args, append(os.Environ(), "TRUTH_SO_FAR="+soFar))
	panic(err)
}

func main() {
	beginNs := clockNs(processCPU)
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: truth all|calls|shares|profile CPU_MS [stay]")
		os.Exit(64)
	}
	runtime.LockOSThread()
	signal.Notify(signals, syscall.SIGUSR1)
	go truth_receiver(signals, received)
	cpuMs, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		panic(err)
	}
	budgetNs := cpuMs * 1000000
	again := os.Args[1] == "all"
	if soFar, ok := os.LookupEnv("TRUTH_SO_FAR"); ok {
		again = false
		numbers := make([]int64, 0, leaves+2)
		for _, text := range strings.Fields(soFar) {
			number, _ := strconv.ParseInt(text, 10, 64)
			numbers = append(numbers, number)
		}
		beginNs, calls = numbers[0], numbers[1]
		copy(spentNs[:], numbers[2:])
	}
	var profile bytes.Buffer
	if os.Args[1] == "profile" {
		// The default of 100 a second is few; it complains on stderr and keeps this.
		runtime.SetCPUProfileRate(500)
		if err := pprof.StartCPUProfile(&profile); err != nil {
			panic(err)
		}
	}
	for {
		leftNs := budgetNs - (clockNs(processCPU) - beginNs)
		if leftNs <= 0 {
			break
		}
		if again && leftNs < budgetNs/2 {
			truth_again(beginNs)
		}
		sliceNs := leftNs
		if sliceNs > 100000000 {
			sliceNs = 100000000
		}
		truth_pass(sliceNs, os.Args[1] == "shares")
	}
	cpuNs := clockNs(processCPU) - beginNs
	pprof.StopCPUProfile()
	told := map[string]int64{}
	for leaf, ns := range spentNs {
		if ns > 0 {
			told[names[leaf]] = ns
		}
	}
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"leaves": told, "calls": calls, "cpu_ns": cpuNs, "exec_cpu_ns": beginNs,
		"pprof": base64.StdEncoding.EncodeToString(profile.Bytes()),
	})
	if len(os.Args) > 3 {
		terminate := make(chan os.Signal, 1)
		signal.Notify(terminate, syscall.SIGTERM)
		<-terminate
	}
}
