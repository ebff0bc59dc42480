package source

import "slices"

// File reports whether p and q are places in the same file of the same log, or in the same journal. The log counts: while
// one still has to find the rest of a file that is gone from its place, the inode may already belong to another log.
func (p Position) File(q Position) bool {
	return p.Path == q.Path && p.Ino == q.Ino && (p.Dev == q.Dev || p.Ino == 0)
}

// Advance is what a position store does with a chunk whose lines are done: it forgets what is Done, then puts Next in
// the place of the older position in the same file. It may change held and returns what is to be held from then on;
// handing that to a new source as the positions to resume from gives exactly the lines after the chunk.
func Advance(held []Position, c Chunk) []Position {
	kept := held[:0]
	for _, p := range held {
		if !slices.ContainsFunc(c.Done, p.File) && !p.File(c.Next) {
			kept = append(kept, p)
		}
	}
	return append(kept, c.Next)
}
