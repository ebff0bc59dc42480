package window

// An arena holds the blocks of stamps, in classes of one size each. A block is named by its class and its number and
// never moves. What is released is used again by its class; only blocks that fill a chunk go back to the heap.
type arena struct {
	classes [len(classCaps)]class
	words   int // in blocks that are in use
}

// classCaps are the sizes of blocks, in stamps: nothing for a host with one failure, 2 for up to three, 8 for up to
// nine (maxretry 10), then doubling up to MaxFailures.
var classCaps = [...]int{0, 2, smallBlock, 16, 32, 64, 128, 256, 512, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14,
	1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19, MaxFailures}

// smallBlock is the size up to which a block too large is kept: giving it back would win little.
const smallBlock = 8

// chunkWords is how many stamps are allocated at once, or one block if that is larger.
const chunkWords = 1 << 13

func capOf(class int) int { return classCaps[class] }

// classFor is the smallest class for n stamps.
func classFor(n int) int {
	c := 0
	for classCaps[c] < n {
		c++
	}
	return c
}

type class struct {
	chunks [][]uint32
	used   uint32 // blocks ever made
	free   uint32 // the first released block's number plus one; its first word holds the next
	spare  []uint32
}

// alloc returns the number of a block whose content is arbitrary.
func (a *arena) alloc(c int) uint32 {
	size := capOf(c)
	if size == 0 {
		return 0
	}
	a.words += size
	cl := &a.classes[c]
	per := max(1, chunkWords/size)
	if per == 1 {
		if n := len(cl.spare); n > 0 {
			block := cl.spare[n-1]
			cl.spare = cl.spare[:n-1]
			cl.chunks[block] = make([]uint32, size)
			return block
		}
	} else if cl.free != 0 {
		block := cl.free - 1
		cl.free = a.block(c, block)[0]
		return block
	}
	block := cl.used
	cl.used++
	if int(block)/per == len(cl.chunks) {
		cl.chunks = append(cl.chunks, make([]uint32, per*size))
	}
	return block
}

// block is the memory of a block, all of its size.
func (a *arena) block(c int, block uint32) []uint32 {
	size := capOf(c)
	if size == 0 {
		return nil
	}
	per := max(1, chunkWords/size)
	chunk, i := a.classes[c].chunks[int(block)/per], int(block)%per*size
	return chunk[i : i+size : i+size]
}

// release gives a block back.
func (a *arena) release(c int, block uint32) {
	size := capOf(c)
	if size == 0 {
		return
	}
	a.words -= size
	cl := &a.classes[c]
	if chunkWords/size <= 1 {
		cl.chunks[block] = nil
		cl.spare = append(cl.spare, block)
		return
	}
	a.block(c, block)[0] = cl.free
	cl.free = block + 1
}
