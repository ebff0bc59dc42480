//go:build !amd64

package match

const wide = false

func indexAVX2(*byte, int, int, byte, byte, byte, byte) int { panic("there is no AVX2 here") }
