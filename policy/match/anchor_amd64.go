package match

import "golang.org/x/sys/cpu"

// wide says that this processor can look at 32 places at once.
var wide = cpu.X86.HasAVX2

// indexAVX2 is anchor.index for n places, a multiple of 32 and not 0: it reads n bytes from b on and as many from b+gap
// on. first and second are the bytes that are wanted, once a fold was put into those at hand.
//
//go:noescape
func indexAVX2(b *byte, n, gap int, first, second, firstFold, secondFold byte) int
