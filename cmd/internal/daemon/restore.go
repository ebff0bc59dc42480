package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"time"

	"banset/cmd/internal/mirror"
	"banset/cmd/internal/state"
	"banset/nft"
	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/config"
	"banset/policy/judge"
)

// Restore puts the bans of the blocklist into the kernel, with the time that is left of each, and returns how many there
// are. It is for the boot, before the network is up. What the state remembers counts as at a start of the daemon.
// [state.ErrInUse] says that a daemon runs.
//
// Mostly the file says it all: then the kernel gets its lines as they are read, and neither file nor state is touched.
func Restore(ctx context.Context, cfg *config.Config, log *slog.Logger) (bans int, err error) {
	if err := state.Free(cfg.State); err != nil {
		return 0, err
	}
	bans, made, err := restoreLines(ctx, cfg, log)
	if errors.Is(err, mirror.ErrNotPlain) || errors.Is(err, fs.ErrNotExist) {
		return restoreAll(ctx, cfg, log, made)
	}
	return bans, err
}

// restoreLines loads the file's lines into the kernel. mirror.ErrNotPlain says that there is more to it. made: what the
// kernel has now is ours alone, right or not.
func restoreLines(ctx context.Context, cfg *config.Config, log *slog.Logger) (bans int, made bool, err error) {
	set, err := Settings(cfg)
	if err != nil {
		return 0, false, err
	}
	keeper, err := nft.Open(KernelConfig(cfg))
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	report, err := keeper.Check(ctx)
	if err != nil {
		return 0, false, err
	}
	if len(report.Emptied) < len(nft.Sets) {
		return 0, false, mirror.ErrNotPlain // what stands there counts, too
	}
	// The state's check reads all of it: a large one takes as long as the load.
	type opened struct {
		store *state.Store
		err   error
	}
	checked := make(chan opened, 1)
	go func() {
		store, err := state.Open(cfg.State, state.Options{ReadOnly: true})
		checked <- opened{store, err}
	}()
	file := mirror.NewFile(cfg.Blocklist, nil, log, func() blocklist.Options { return parsing(cfg) }, nil)
	loaded, err := file.LoadKernel(ctx, keeper, judge.NewAllow(set.Allow), cfg.MaxBans)
	remembers := <-checked
	if remembers.err == nil {
		defer func() { err = errors.Join(err, remembers.store.Close()) }()
	}
	switch {
	case err != nil:
		return 0, !errors.Is(err, fs.ErrNotExist), err
	case errors.Is(remembers.err, fs.ErrNotExist):
		return loaded.Bans, true, nil
	case remembers.err != nil:
		return 0, true, mirror.ErrNotPlain // told and answered there
	}
	agrees, err := agree(remembers.store, loaded, time.Now())
	if err == nil && !agrees {
		err = mirror.ErrNotPlain
	}
	return loaded.Bans, true, err
}

// agree reports whether the state remembers nothing that a start would take for more than the file's lines say: a ban
// that the file has yet to be told of, one that it has to lose, or so many that it lost that it is an accident.
func agree(store *state.Store, loaded *mirror.Loaded, now time.Time) (bool, error) {
	plain, held, removed := true, 0, 0
	err := store.Each(state.Lines, func(k, v []byte) error {
		if !plain {
			return nil
		}
		var host netip.Prefix
		flags, until, ok := bookmark(v)
		if !ok || host.UnmarshalBinary(k) != nil {
			plain = false
			return nil
		}
		switch ended := (policy.Ban{Until: until}).Ended(now); {
		case flags&flagGone != 0:
			plain = !loaded.Has(host)
		case ended:
		case flags&flagFiled == 0:
			plain = false
		default:
			held++
			if !loaded.Has(host) {
				removed++
			}
		}
		return nil
	})
	return plain && !loaded.Accident(held, removed), err
}

// bookmark reads of what encodeBan wrote the flags and the end.
func bookmark(value []byte) (flags uint64, until int64, ok bool) {
	flags, n := binary.Uvarint(value)
	if n <= 0 {
		return 0, 0, false
	}
	_, at := binary.Varint(value[n:])
	if at <= 0 {
		return 0, 0, false
	}
	until, end := binary.Varint(value[n+at:])
	return flags, until, end > 0
}

// restoreAll does as a start of the daemon does. made: nobody but us can have put anything into the kernel's table.
func restoreAll(ctx context.Context, cfg *config.Config, log *slog.Logger, made bool) (bans int, err error) {
	h, err := open(cfg, log)
	if err != nil {
		return 0, err
	}
	defer func() {
		if closeErr := h.close(); err == nil {
			err = closeErr
		}
	}()
	h.court.direct, h.kernel.Anew = true, made
	if err := h.kernel.Start(ctx); err != nil {
		return 0, err
	}
	if err := h.file.Finish(ctx); err != nil {
		// The kernel protects; the daemon makes the file good.
		log.Warn(fmt.Sprintf("blocklist: %v", err))
	}
	return h.court.judge.Book().Len(), h.memory.commit(ctx)
}
