package main

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// mapWindow is how much of a log is mapped at once.
	mapWindow = 64 << 20
	// tryWindow is how much of it shows which way to read it costs less, and what a file must have several times to be worth
	// the question.
	tryWindow = 2 << 20
)

// errShrank says that a log was truncated while it was read.
var errShrank = errors.New("it was truncated while it was read")

// A plainLog is a regular file that is read at full speed, in one of two ways: mapped, without the kernel's copy of it,
// which costs more than the search in it; or copied by the kernel all the same, where a page fault is dear: in a
// virtual machine whose page tables are shadowed mapping costs three times as much. Which it is, the first pieces show.
type plainLog struct {
	f    *os.File
	off  int64
	size int64             // when it was opened
	way  func(int64) error // mapped or copied; nil: not known yet
	cut  cutter
	buf  []byte
	done func(int) // is told how many bytes are read

	waits bool // the file system reads in no other way
}

// readPlain is readBlocks for a regular file. What comes while it is read is read, too.
func readPlain(f *os.File, done func(int), yield func([]byte) error) (blockSums, error) {
	info, err := f.Stat()
	if err != nil {
		return blockSums{}, err
	}
	l := &plainLog{f: f, size: info.Size(), cut: cutter{yield: yield}, buf: make([]byte, blockSize), done: done}
	if l.size < 8*tryWindow {
		l.way = l.copied
	}
	return l.read()
}

func (l *plainLog) read() (blockSums, error) {
	var err error
	if l.way == nil {
		l.way, err = l.cheaper()
	}
	for err == nil && l.off < l.size {
		err = l.way(min(mapWindow, l.size-l.off))
	}
	if err == nil {
		err = l.copied(math.MaxInt64) // what has come since
	}
	if err == nil {
		err = l.cut.end()
	}
	return l.cut.sums, err
}

// cheaper reads some of the log in both ways.
func (l *plainLog) cheaper() (way func(int64) error, err error) {
	if err := l.copied(tryWindow); err != nil { // what is done for the first time is not measured
		return nil, err
	}
	mapped, err := busyFor(func() error { return l.mapped(tryWindow) })
	if err != nil {
		return nil, err
	}
	copied, err := busyFor(func() error { return l.copied(tryWindow) })
	if copied < mapped {
		return l.copied, err
	}
	return l.mapped, err
}

// busyFor is how long f keeps the processor busy: what waits for a disk, or for its turn, costs nothing.
func busyFor(f func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var from, to unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &from); err != nil {
		return 0, err
	}
	err := f()
	if err == nil {
		err = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &to)
	}
	return time.Duration(to.Nano() - from.Nano()), err
}

// copied reads the next n bytes, or all there are.
func (l *plainLog) copied(n int64) error {
	for n > 0 {
		got, err := l.readAt(l.buf[:min(n, int64(len(l.buf)))])
		if _, refused := l.cut.Write(l.buf[:got]); refused != nil {
			return refused
		}
		l.off += int64(got)
		n -= int64(got)
		l.done(got)
		switch {
		case err == io.EOF && l.off < l.size:
			return errShrank
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// readAt is ReadAt, and may return less than that if it returns something. What lies in memory is read without telling
// Go's scheduler, which else has its watchdog awake and the thread put aside all the time: that took a tenth of a scan.
// What has to be waited for is left to ReadAt; see RWF_NOWAIT in preadv2(2).
func (l *plainLog) readAt(b []byte) (int, error) {
	if !l.waits {
		vec := unix.Iovec{Base: &b[0]}
		vec.SetLen(len(b))
		n, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, l.f.Fd(), uintptr(unsafe.Pointer(&vec)), 1,
			uintptr(l.off), uintptr(l.off>>32), unix.RWF_NOWAIT)
		if errno == 0 && n > 0 {
			return int(n), nil
		}
		l.waits = errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR
	}
	return l.f.ReadAt(b, l.off)
}

// mapped reads the next n bytes, which the file had when it was opened.
func (l *plainLog) mapped(n int64) (err error) {
	skip := l.off % int64(os.Getpagesize())
	window, err := unix.Mmap(int(l.f.Fd()), l.off-skip, int(n+skip), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return l.copied(n) // a file system that can't
	}
	defer unix.Munmap(window)
	_ = unix.Madvise(window, unix.MADV_SEQUENTIAL) // advice
	// A page that the file no longer has is a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = errShrank
		}
	}()
	for text := window[skip:]; len(text) > 0; {
		block := text[:min(len(text), blockSize)]
		// A line in two pieces would be copied.
		if end := bytes.LastIndexByte(block, '\n') + 1; end > 0 {
			block = block[:end]
		}
		if _, err := l.cut.Write(block); err != nil {
			return err
		}
		l.off += int64(len(block))
		l.done(len(block))
		text = text[len(block):]
	}
	return nil
}
