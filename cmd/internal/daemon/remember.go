package daemon

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"banset/cmd/internal/mirror"
	"banset/cmd/internal/source"
	"banset/cmd/internal/state"
	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

const (
	// commitEvery is how much of the judgement a crash mostly has to repeat from the logs.
	commitEvery = time.Second
	// commitSoon is the pause after the first commit of a life; it doubles up to commitEvery. So a daemon that never
	// lives for long gets on with its logs all the same.
	commitSoon = 20 * time.Millisecond
	// commitShare keeps the share of time small that goes into commits: in a flood from a million hosts each writes the
	// whole state. After one that took a second the next comes four seconds later, but never more than commitRarely.
	commitShare  = 4
	commitRarely = 30 * time.Second
	// bansAtOnce is how many bans one transaction takes at the most: those of a large blocklist would take several times the
	// memory of the book.
	bansAtOnce = 10_000
)

// buckets says where the state keeps each part of the judge's memory.
var buckets = map[judge.Part]state.Bucket{
	judge.Windows: state.Windows,
	judge.Ladder:  state.Ladder,
	judge.Skews:   state.Skews,
}

// memory commits what the court learned, about once a second and only when there is something: counts, bans and the
// positions that go with them in one transaction.
type memory struct {
	path   string
	store  *state.Store // closed by whoever ends the memory; nil when it broke and no new one could be had
	court  *court
	log    *slog.Logger
	wake   chan struct{}
	demand chan chan struct{} // a commit now
	ready  chan struct{}
	notice string // as last logged
	// unsaved is what a failed commit left, by bucket and key.
	unsaved map[string]state.Change
	thrift  thrift
	// after is closed when there may be commits that nobody demands: what a start takes all at once is its peak.
	after <-chan struct{}
}

func newMemory(path string, store *state.Store, c *court, log *slog.Logger) *memory {
	m := &memory{path: path, store: store, court: c, log: log, wake: make(chan struct{}, 1), demand: make(chan chan struct{}), ready: make(chan struct{})}
	m.after = closed
	m.thrift.begin()
	close(m.ready)
	return m
}

func (m *memory) String() string         { return "state" }
func (m *memory) Ready() <-chan struct{} { return m.ready }

// Wake says that there is something to commit. It never blocks.
func (m *memory) Wake() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// started says that the start is over, which takes more memory than what follows.
func (m *memory) started() {
	m.thrift.burst.Store(true)
	m.Wake()
}

// save commits now and returns when that is done, whether it went well or not: what can't be written is logged, and
// kept for later.
func (m *memory) save(ctx context.Context) {
	done := make(chan struct{})
	select {
	case m.demand <- done:
		<-done
	case <-ctx.Done():
	}
}

func (m *memory) Run(ctx context.Context) error {
	trouble, pause := "", commitSoon
	var wake <-chan struct{} // nil: commits wait
	after := m.after
	var rest, calm <-chan time.Time // nil: nothing to wait for
	for {
		var done chan struct{}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return m.commit(last)
		case <-after:
			m.thrift.calm() // what the start took is not to be below what the first commits take
			wake, after = m.wake, nil
			continue
		case <-rest:
			wake, rest = m.wake, nil
			continue
		case <-calm:
			calm = nil
			m.thrift.calm()
			continue
		case done = <-m.demand:
		case <-wake:
		}
		began := time.Now()
		err := m.commit(ctx)
		if done != nil {
			close(done)
		}
		wait := max(pause, min(commitShare*time.Since(began), commitRarely))
		pause = min(2*pause, commitEvery)
		switch {
		case ctx.Err() != nil:
			continue
		case err != nil:
			wait = 10 * time.Second
			m.Wake()
			if text := err.Error(); text != trouble {
				trouble = text
				m.log.Error(fmt.Sprintf("state: %s; counting goes on in memory", text))
			}
		case trouble != "":
			trouble = ""
			m.log.Info("state: writing works again")
		}
		wake, rest = nil, time.After(wait)
		if calm == nil && m.thrift.burst.Load() {
			calm = time.After(calmAfter)
		}
	}
}

// reopen begins with another file, because the one we had broke under us, and has all that is remembered written anew.
func (m *memory) reopen(ctx context.Context) error {
	if m.store != nil {
		m.log.Error("state: the file broke while it was in use; beginning with another")
		// A store that broke can say nothing of use any more.
		_ = m.store.Close()
		m.store = nil
	}
	store, err := state.Open(m.path, state.Options{})
	if err != nil {
		return err
	}
	m.store, m.unsaved = store, nil
	m.heed()
	return m.court.do(ctx, func(j *judge.Judge) { m.court.changeAll(j) })
}

// heed logs what the store has to tell.
func (m *memory) heed() {
	if notice := m.store.Notice(); notice != "" && notice != m.notice {
		m.notice = notice
		m.log.Warn("state: " + notice)
	}
}

func (m *memory) close() error {
	if m.store == nil {
		return nil
	}
	return m.store.Close()
}

// commit takes a snapshot of what changed and makes it durable.
func (m *memory) commit(ctx context.Context) error {
	if m.store == nil {
		if err := m.reopen(ctx); err != nil {
			return err
		}
	}
	err := m.commitTo(ctx)
	if errors.Is(err, state.ErrBroken) {
		if err := m.reopen(ctx); err != nil {
			return err
		}
		err = m.commitTo(ctx)
	}
	if err == nil {
		m.heed()
	}
	return err
}

// commitTo commits in one transaction, but for more bans than that takes: those go before. What goes without the place
// in the log that it comes from is found there again after a crash.
func (m *memory) commitTo(ctx context.Context) error {
	for more := true; more; {
		var changes []state.Change
		if err := m.court.do(ctx, func(j *judge.Judge) { changes, more = m.court.changes(j) }); err != nil {
			return err
		}
		if err := m.put(changes); err != nil {
			return err
		}
	}
	return nil
}

// put makes changes durable, after those that could not be made before.
func (m *memory) put(changes []state.Change) error {
	if m.unsaved != nil {
		for _, c := range changes {
			m.unsaved[string(c.Bucket)+"\x00"+string(c.Key)] = c
		}
		changes = changes[:0]
		for _, c := range m.unsaved {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	defer m.thrift.worked(len(changes))
	if err := m.store.Commit(changes); err != nil {
		if m.unsaved == nil {
			m.unsaved = make(map[string]state.Change, len(changes))
			for _, c := range changes {
				m.unsaved[string(c.Bucket)+"\x00"+string(c.Key)] = c
			}
		}
		return err
	}
	m.unsaved = nil
	return nil
}

// changeAll makes the next changes all that there is. It runs in the court's goroutine.
func (c *court) changeAll(j *judge.Judge) {
	j.ChangeAll()
	j.Book().MarkAll(ledger.State)
	for key := range c.positions {
		c.moved[key] = struct{}{}
	}
}

// changes is what changed since the last call, for one transaction. more says that there are so many bans that the rest
// of them, and all else, is for the next ones. It runs in the court's goroutine.
func (c *court) changes(j *judge.Judge) (changes []state.Change, more bool) {
	book := j.Book()
	bans, gone := book.Work(ledger.State, bansAtOnce)
	more = book.Waiting(ledger.State) > 0
	changes = make([]state.Change, 0, len(bans)+len(gone))
	for _, b := range bans {
		changes = append(changes, state.Change{Bucket: state.Lines, Key: hostKey(b.Host), Value: encodeBan(b, book.Holds(ledger.File, b.Host), false)})
	}
	for _, host := range gone {
		change := state.Change{Bucket: state.Lines, Key: hostKey(host)}
		if !book.Holds(ledger.File, host) {
			// The file still has the line: after a crash it must not be taken for a new ban.
			past := policy.Ban{Host: host}
			past.At, past.Until = book.Past(host)
			change.Value = encodeBan(past, false, true)
		}
		changes = append(changes, change)
	}
	book.Done(ledger.State, true) // what a commit can't write, memory keeps
	if more {
		return changes, true
	}
	c.forget(j)
	j.Changed(func(p judge.Part, key, value []byte) {
		changes = append(changes, state.Change{Bucket: buckets[p], Key: key, Value: value})
	})
	for key := range c.moved {
		change := state.Change{Bucket: state.Positions, Key: []byte(key)}
		if p, ok := c.positions[key]; ok {
			change.Value, _ = json.Marshal(p) // a plain struct always marshals
		}
		changes = append(changes, change)
	}
	clear(c.moved)
	return changes, false
}

// load puts back what the state holds, but for the bans. What can't be read is told and left out: the logs and the file
// still have it.
func load(store *state.Store, j *judge.Judge, log *slog.Logger) (positions []source.Position, err error) {
	odd := 0
	for part, bucket := range buckets {
		err := store.Each(bucket, func(k, v []byte) error {
			if err := j.Load(part, k, v); err != nil {
				odd++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	j.Loaded()
	err = store.Each(state.Positions, func(_, v []byte) error {
		var p source.Position
		if err := json.Unmarshal(v, &p); err != nil {
			odd++
			return nil
		}
		positions = append(positions, p)
		return nil
	})
	tellOdd(odd, log)
	return positions, err
}

func tellOdd(odd int, log *slog.Logger) {
	if odd > 0 {
		log.Warn(fmt.Sprintf("state: %d records can't be read and are left out", odd))
	}
}

// remembered yields the bans that the state holds, one by one: together they would take as much again as the book. What
// goes wrong is in failed.
func remembered(store *state.Store, log *slog.Logger, failed *error) iter.Seq[mirror.Remembered] {
	return func(yield func(mirror.Remembered) bool) {
		odd := 0
		enough := errors.New("enough")
		err := store.Each(state.Lines, func(k, v []byte) error {
			if r, ok := decodeBan(k, v); !ok {
				odd++
			} else if !yield(r) {
				return enough
			}
			return nil
		})
		if err != nil && err != enough {
			*failed = err
		}
		tellOdd(odd, log)
	}
}

func positionKey(p source.Position) string {
	if p.Ino == 0 {
		return p.Path
	}
	return strconv.FormatUint(p.Dev, 16) + ":" + strconv.FormatUint(p.Ino, 16) + ":" + p.Path
}

func hostKey(p netip.Prefix) []byte {
	b, _ := p.MarshalBinary() // never fails
	return b
}

const (
	flagFiled = 1 << iota
	flagGone
)

// encodeBan is a ban as the state keeps it: flags, at, until and failures as varints, the policy's name and the note
// with their lengths.
func encodeBan(b policy.Ban, filed, gone bool) []byte {
	flags := uint64(0)
	if filed {
		flags |= flagFiled
	}
	if gone {
		flags |= flagGone
	}
	out := binary.AppendUvarint(nil, flags)
	out = binary.AppendVarint(out, b.At)
	out = binary.AppendVarint(out, b.Until)
	out = binary.AppendVarint(out, int64(b.Failures))
	out = binary.AppendUvarint(out, uint64(len(b.Policy)))
	out = append(out, b.Policy...)
	return append(out, b.Note...)
}

func decodeBan(key, value []byte) (r mirror.Remembered, ok bool) {
	if r.Ban.Host.UnmarshalBinary(key) != nil {
		return r, false
	}
	flags, n := binary.Uvarint(value)
	if n <= 0 {
		return r, false
	}
	value = value[n:]
	var numbers [3]int64
	for i := range numbers {
		x, n := binary.Varint(value)
		if n <= 0 {
			return r, false
		}
		numbers[i], value = x, value[n:]
	}
	size, n := binary.Uvarint(value)
	if n <= 0 || size > uint64(len(value)-n) {
		return r, false
	}
	r.Filed, r.Gone = flags&flagFiled != 0, flags&flagGone != 0
	r.Ban.At, r.Ban.Until, r.Ban.Failures = numbers[0], numbers[1], int(numbers[2])
	r.Ban.Policy = string(value[n : n+int(size)])
	r.Ban.Note = string(value[n+int(size):])
	return r, true
}
