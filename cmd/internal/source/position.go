package source

// File reports whether p and q are places in the same file, or in the same journal.
func (p Position) File(q Position) bool {
	if p.Ino != 0 || q.Ino != 0 {
		return p.Ino == q.Ino && p.Dev == q.Dev
	}
	return p.Path == q.Path
}

// Advance is what a position store does with a chunk whose lines are done: it forgets what is Done, then puts Next in
// the place of the older position in the same file. It may change held and returns what is to be held from then on;
// handing that to a new source as the positions to resume from gives exactly the lines after the chunk.
func Advance(held []Position, c Chunk) []Position {
	kept := held[:0]
	for _, p := range held {
		if !over(p, c.Done) && !p.File(c.Next) {
			kept = append(kept, p)
		}
	}
	return append(kept, c.Next)
}

// over compares the path too: the inode of a file that is over may already belong to another log.
func over(p Position, done []Position) bool {
	for _, d := range done {
		if p.File(d) && p.Path == d.Path {
			return true
		}
	}
	return false
}
