package probe

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
)

// areas are the parts of a disk that rates are measured with: those that hold data
// where they are known, and else all of it.
type areas struct {
	list transfer.Areas
}

func areasOf(list []transfer.Area, capacity int64) *areas {
	if len(list) == 0 {
		list = []transfer.Area{{Length: capacity}}
	}
	return &areas{transfer.NewAreas(list)}
}

// covers says whether what is listed is all of a disk.
func covers(list []transfer.Area, capacity int64) findings.Answer {
	var total int64
	for _, a := range list {
		total += a.Length
	}
	if total >= capacity {
		return findings.Whole
	}
	return findings.Trimmed
}

// files finds out how /folder serves the large disk (F-DS-1).
func (p *run) files(ctx context.Context) error {
	f := &p.r.Folder
	switch {
	case p.vm.Power != vsphere.PoweredOff:
		f.Why = findings.PowerState
		return nil
	case p.vm.Snapshots > 0:
		f.Why = findings.Snapshots
		return nil
	}
	source, done, err := p.folderSource()
	if err != nil {
		f.Why = reason(err)
		return err
	}
	defer done()
	refused, err := p.http(ctx, source, &f.HTTP)
	switch {
	case refused > 0:
		f.Answer, f.Status = findings.Refused, refused
		return err
	case f.Range == "":
		f.Why = reason(err)
		return err
	}
	f.Answer = findings.Served
	var list []transfer.Area
	if p.vm.ChangeTracking {
		var told error
		if list, told = p.client.AllocatedAreas(ctx, p.vm, p.large); told != nil {
			f.Areas = findings.Refused
			err = errors.Join(err, told)
		} else {
			f.Areas = covers(list, p.large.Capacity)
		}
	}
	if f.Range == findings.Honoured {
		p.folder = areasOf(list, p.large.Capacity)
	}
	return err
}

// folderSource is the large disk's flat file. Call done when it is no longer needed.
func (p *run) folderSource() (source asker, done func(), err error) {
	s, done, err := p.client.DatastoreSource(p.vm, p.large)
	if err != nil {
		return nil, nil, err
	}
	source, err = askerOf(s)
	return source, done, err
}

// folderServes says whether /folder serves a range of the disk now.
func (p *run) folderServes(ctx context.Context) findings.Answer {
	source, done, err := p.folderSource()
	if err != nil {
		return ""
	}
	defer done()
	resp, err := patiently(ctx, func() (*http.Response, error) { return source.Ask(ctx, http.MethodGet, probeAsk) })
	if err != nil {
		return ""
	}
	_ = resp.Body.Close() // its status is the answer
	if resp.StatusCode == http.StatusPartialContent {
		return findings.Served
	}
	return findings.Refused
}

// held is how long a disk must be, in bytes, so that an answer with all of it is still
// under way when nobody reads it: more than sockets and servers buffer.
const held = 32 << 20

// locks finds out whether /folder and port 902 keep each other from the disk (F-902-3).
func (p *run) locks(ctx context.Context) error {
	if p.folder == nil || p.r.Port902.Opened != findings.Yes {
		return nil
	}
	disk, err := p.open902(ctx, 1, tries)
	if err != nil {
		return err
	}
	p.r.Folder.Beside902 = p.folderServes(ctx)
	disk.Close()
	if p.large.Capacity < held {
		return nil
	}
	source, done, err := p.folderSource()
	if err != nil {
		return err
	}
	defer done()
	body, err := openPatiently(ctx, func() (io.ReadCloser, error) { return source.Open(ctx, 0, -1) })
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.CopyN(io.Discard, body, 1); err != nil {
		return err
	}
	p.r.Port902.BesideFiles = p.opens902(ctx, 1)
	return nil
}

// noRoom says whether a server may have room later, because it has not noticed yet that
// somebody has hung up.
func noRoom(err error) bool {
	var status *transfer.StatusError
	return errors.Is(err, nfc.ErrLocked) || errors.Is(err, nfc.ErrMemory) || errors.Is(err, nfc.ErrBusy) ||
		errors.As(err, &status) && (status.Code == http.StatusServiceUnavailable || status.Code == http.StatusInternalServerError)
}
