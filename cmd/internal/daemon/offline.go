package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"banset/cmd/internal/control"
	"banset/nft"
	"banset/policy/config"
)

// Offline does a ban or unban without a daemon, through the same book, kernel and file. It holds the state, so that
// neither a daemon nor another such command works on them at the same time; [state.ErrInUse] says that one does.
func Offline(ctx context.Context, cfg *config.Config, log *slog.Logger, r control.Request) (a control.Answer, err error) {
	h, err := open(cfg, log)
	if err != nil {
		return a, err
	}
	defer func() {
		if closeErr := h.close(); err == nil {
			err = closeErr
		}
	}()
	h.court.direct = true
	if err := h.kernel.Start(ctx); err != nil {
		return a, err
	}
	a = h.answer(ctx, r, func([]netip.Prefix) error {
		if err := h.kernel.Push(ctx); err != nil {
			return err
		}
		if err := h.file.Finish(ctx); err != nil {
			return fmt.Errorf("the kernel has it, the blocklist has not: %w", err)
		}
		return h.memory.commit(ctx)
	})
	return a, nil
}

// Flush takes our table out of the kernel, bans and all. The blocklist keeps them for the next start.
func Flush(ctx context.Context, cfg *config.Config) error {
	keeper, err := nft.Open(KernelConfig(cfg))
	if err != nil {
		return err
	}
	defer keeper.Close()
	return keeper.Remove(ctx)
}
