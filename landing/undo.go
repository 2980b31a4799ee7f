package landing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
)

const (
	// emptyVolume is more than libvirt allocates for a volume into which nothing was
	// copied, in bytes.
	emptyVolume = 1 << 20
	// libvirt looks a pool over after each upload, and deletes no volume meanwhile.
	busyPause, busyTime = 200 * time.Millisecond, 30 * time.Second
)

// Undo makes an end of a landing that failed, or whose process died, from what it has
// noted last. Where the guest was started, the landing is done, and landed is what came
// of it. Otherwise its domain and its volumes are removed. It may be called again.
func Undo(ctx context.Context, n Notes) (landed job.Landed, done bool, err error) {
	c, err := dial(ctx, n.URI)
	if err != nil {
		return landed, false, err
	}
	defer c.close()
	if n.UUID != "" {
		if done, err = c.undefine(ctx, n); done || err != nil {
			return n.landed(), done, err
		}
	}
	return landed, false, c.deleteVolumes(ctx, n)
}

// undefine removes the landing's domain, unless it was started.
func (c *conn) undefine(ctx context.Context, n Notes) (started bool, err error) {
	d, err := c.domainOf(ctx, n.UUID)
	if is(err, libvirt.ErrNoDomain) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var text string
	var state, reason int32
	err = c.call(ctx, func() (err error) {
		if text, err = c.l.DomainGetXMLDesc(d, 0); err == nil {
			state, reason, err = c.l.DomainGetState(d, 0)
		}
		return err
	})
	switch {
	case err != nil:
		return false, err
	case !strings.Contains(text, n.ID): // of somebody else, who came before us
		return false, nil
	case libvirt.DomainState(state) != libvirt.DomainShutoff, n.Starting && hasRun(libvirt.DomainShutoffReason(reason)):
		return true, nil
	}
	return false, c.call(ctx, func() error {
		const all = libvirt.DomainUndefineManagedSave | libvirt.DomainUndefineSnapshotsMetadata | libvirt.DomainUndefineNvram | libvirt.DomainUndefineCheckpointsMetadata
		err := c.l.DomainUndefineFlags(d, all)
		if is(err, libvirt.ErrInvalidArg) || is(err, libvirt.ErrNoSupport) { // the test driver, and older ones
			err = c.l.DomainUndefine(d)
		}
		return err
	})
}

// hasRun reports whether a guest that is off has run.
func hasRun(reason libvirt.DomainShutoffReason) bool {
	return reason != libvirt.DomainShutoffUnknown && reason != libvirt.DomainShutoffFailed
}

// deleteVolumes removes what the landing has made in the pool.
func (c *conn) deleteVolumes(ctx context.Context, n Notes) error {
	if len(n.Volumes) == 0 {
		return nil
	}
	var pool libvirt.StoragePool
	err := c.call(ctx, func() (err error) {
		if pool, err = c.l.StoragePoolLookupByName(n.Pool); err == nil {
			err = c.l.StoragePoolRefresh(pool, 0)
		}
		return err
	})
	if is(err, libvirt.ErrNoStoragePool) {
		return nil // what was in it is not libvirt's any more
	}
	if err != nil {
		return fmt.Errorf("storage pool %q: %w", n.Pool, err)
	}
	for _, v := range n.Volumes {
		if uerr := c.deleteVolume(ctx, pool, v); uerr != nil {
			err = errors.Join(err, fmt.Errorf("delete the volume %q of the pool %q: %w", v.Name, n.Pool, uerr))
		}
	}
	return err
}

func (c *conn) deleteVolume(ctx context.Context, pool libvirt.StoragePool, v Volume) error {
	for end := time.Now().Add(busyTime); ; {
		volume, err := c.volume(ctx, pool, v.Name)
		if is(err, libvirt.ErrNoStorageVol) {
			return nil
		}
		if err != nil {
			return err
		}
		err = c.call(ctx, func() error {
			if _, _, size, err := c.l.StorageVolGetInfo(volume); err != nil || !v.Made && size > emptyVolume {
				return err // one that holds something is not the one that was about to be made
			}
			return c.l.StorageVolDelete(volume, 0)
		})
		if !is(err, libvirt.ErrOperationInvalid) || time.Now().After(end) {
			return err
		}
		if err := sleep.For(ctx, busyPause); err != nil {
			return err
		}
	}
}
