package node

import (
	"context"
	"time"
)

// reconcile gives back the addresses of sandboxes that are no more. Every
// sandbox of the runtime counts: the hook serves whoever asks it.
func (h *house) reconcile(ctx context.Context) error {
	if h.network == nil {
		return nil
	}
	sandboxes, err := h.runtime.Sandboxes(ctx, nil)
	if err != nil {
		return err
	}
	var live []string
	for _, s := range sandboxes {
		live = append(live, s.ID)
	}
	return h.network.Reconcile(ctx, live)
}

// reconcileEvery is how often addresses are compared with sandboxes, for the
// releases that the hook could not deliver.
const reconcileEvery = time.Minute

func (h *house) keepReconciling(ctx context.Context) error {
	t := time.NewTicker(reconcileEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := h.reconcile(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("addresses not reconciled", "err", err)
			}
		}
	}
}
