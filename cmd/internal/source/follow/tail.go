package follow

import (
	"os"

	"github.com/hpcloud/tail"
)

// tailLines has hpcloud/tail read the lines from off to the file's end. Each ends in '\n', also the last one if it has
// none in the file: the caller must look. It returns early once it has limit bytes.
//
// What makes the library safe (version 1.0.0):
//   - It opens our descriptor through /proc, so it reads that inode whatever the name leads to by now.
//   - Follow is off: it reads to the end and stops, and our own inotify rings for the next time. With Follow it would
//     wait for notifications of its own, which it drops while it is busy and which stop for good at a rename; its
//     watchers are global and may call os.Exit. None of that code runs.
//   - Without MaxLineSize and RateLimiter a line's Text is what was in the file, so lengths add up to offsets.
//   - It keeps a line without end in memory while the file grows faster than it reads: the caller hands over to block
//     reads when more than trickle bytes wait.
//   - It blocks until its Lines are received: they always are, to the end.
func tailLines(f *os.File, off int64, limit int, buf []byte) ([]byte, error) {
	t, err := tail.TailFile(fdPath(f), tail.Config{
		Location:  &tail.SeekInfo{Offset: off},
		MustExist: true,
		Logger:    tail.DiscardingLogger, // nil would be standard error
	})
	if err != nil {
		return nil, err // e.g. no /proc, or the right to open it was lost since
	}
	buf = buf[:0]
	stopped := false
	for line := range t.Lines {
		if stopped {
			continue
		}
		buf = append(append(buf, line.Text...), '\n')
		if len(buf) >= limit {
			stopped = true
			t.Kill(nil)
		}
	}
	return buf, t.Wait()
}
