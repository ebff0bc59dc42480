package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapWindow is how much of a log is mapped at once.
const mapWindow = 64 << 20

// errShrank says that a log was truncated while it was read.
var errShrank = errors.New("it was truncated while it was read")

// readMapped is readBlocks for a regular file, without the kernel's copy of it: that copy costs more than the search in
// it. What it can't do, a very long line for instance, and what comes after the size that the file had, is readBlocks's.
// progress is told how many bytes are done.
func readMapped(f *os.File, progress func(int), yield func([]byte) error) (blockSums, error) {
	info, err := f.Stat()
	if err != nil {
		return blockSums{}, err
	}
	off := int64(0)
	for info.Mode().IsRegular() && info.Size()-off >= blockSize {
		used, err := readWindow(f, off, int(min(mapWindow, info.Size()-off)), progress, yield)
		off += used
		if err != nil {
			return blockSums{bytes: uint64(off)}, err
		}
		if used == 0 {
			break
		}
	}
	rest := io.NewSectionReader(f, off, 1<<62)
	sums, err := readBlocks(readerFunc(func(p []byte) (int, error) {
		n, err := rest.Read(p)
		progress(n)
		return n, err
	}), yield)
	sums.bytes += uint64(off)
	return sums, err
}

// readWindow hands over whole lines from off on, of the next n bytes as many as it can, and returns how long they are.
func readWindow(f *os.File, off int64, n int, progress func(int), yield func([]byte) error) (used int64, err error) {
	skip := int(off % int64(os.Getpagesize()))
	window, err := unix.Mmap(int(f.Fd()), off-int64(skip), n+skip, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, nil // a file system that can't: it is read
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
	for text := window[skip:]; ; {
		end := bytes.LastIndexByte(text[:min(len(text), blockSize)], '\n') + 1
		if end == 0 || needsTrim(text[:end]) {
			return used, nil
		}
		if err := yield(text[:end]); err != nil {
			return used, err
		}
		progress(end)
		used += int64(end)
		text = text[end:]
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
