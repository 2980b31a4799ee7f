package transfer

import (
	"context"
	"fmt"
	"io"
)

// expecter is a Source that can check its answers against what a probe found.
type expecter interface{ Expect(Info) Source }

// expecting returns s with its answers checked, if it can check them.
func expecting(s Source, info Info) Source {
	if e, ok := s.(expecter); ok {
		return e.Expect(info)
	}
	return s
}

// beginner is a Source whose probe can become the stream.
type beginner interface {
	begin(ctx context.Context) (Info, io.ReadCloser, error)
}

// Probe is [Source.Probe] with the watchdog and the retries of o. Other fields
// of o than StallTimeout, Budget and File are not used.
func Probe(ctx context.Context, s Source, o Options) (Info, error) {
	o = o.withDefaults()
	m := &meter{file: o.File, budget: o.Budget}
	for {
		mark := m.budget.mark()
		var info Info
		body, err := guard(ctx, o.StallTimeout, func(ctx context.Context) (io.ReadCloser, error) {
			var err error
			info, err = s.Probe(ctx)
			return io.NopCloser(nil), err
		})
		if err == nil {
			return info, body.Close()
		}
		if err := m.retry(ctx, mark, "probing again", err); err != nil {
			return Info{}, err
		}
	}
}

// NewReader returns the bytes of s from o.Offset to its end, in order. info is
// what a probe found, of now or of an earlier run; with a zero Info the object
// is read as one stream, without any probe.
//
// NewReader sends nothing itself and fails only when o.Offset cannot be honoured
// ([ErrNoRange], or an offset past the end). Everything else is for Read to
// report: io.EOF at the true end as far as that is known, [ErrRestart],
// [ErrEmptyBody], [ErrExhausted] with the last failure, a permanent failure as
// it is, or the context's error. Which way the bytes moved is told by
// info.Ranges.
//
// The reader implements io.WriterTo too, and then lends its own buffers: what it
// writes to must not keep them.
//
// The reader is for one goroutine, except that Close may be called from
// another. It must be closed; Close waits until nothing of it is left running,
// as the end of ctx does not.
func NewReader(ctx context.Context, s Source, info Info, o Options) (io.ReadCloser, error) {
	o = o.withDefaults()
	s = expecting(s, info)
	if info.Ranges && info.Size > 0 {
		if o.Offset < 0 || o.Offset > info.Size {
			return nil, fmt.Errorf("transfer: offset %d is outside the object's %d bytes", o.Offset, info.Size)
		}
		return newRanged(ctx, s, info.Size, o), nil
	}
	if o.Offset != 0 {
		return nil, fmt.Errorf("transfer: cannot start at byte %d: %w", o.Offset, ErrNoRange)
	}
	ctx, cancel := context.WithCancel(ctx)
	return newStream(ctx, cancel, s, nil, o), nil
}

// Open is Probe and NewReader in one. When the server ignores the probe's range
// and begins to send the whole object, that answer becomes the stream: the
// server sees a single request. o.Offset other than 0 needs ranges.
func Open(ctx context.Context, s Source, o Options) (io.ReadCloser, Info, error) {
	o = o.withDefaults()
	b, ok := s.(beginner)
	if !ok || o.Offset != 0 {
		info, err := Probe(ctx, s, o)
		if err != nil {
			return nil, Info{}, err
		}
		r, err := NewReader(ctx, s, info, o)
		return r, info, err
	}
	streamCtx, cancel := context.WithCancel(ctx)
	info, body, err := beginGuarded(streamCtx, b, o)
	if err != nil {
		cancel()
		return nil, Info{}, err
	}
	if body == nil {
		cancel()
		r, err := NewReader(ctx, s, info, o)
		return r, info, err
	}
	return newStream(streamCtx, cancel, expecting(s, info), body, o), info, nil
}

// beginGuarded sends the probe that may become the stream, with retries. The
// body is nil when it did not.
func beginGuarded(ctx context.Context, b beginner, o Options) (Info, *guardedBody, error) {
	m := &meter{file: o.File, budget: o.Budget}
	for {
		mark := m.budget.mark()
		var info Info
		began := false
		body, err := guard(ctx, o.StallTimeout, func(ctx context.Context) (io.ReadCloser, error) {
			i, body, err := b.begin(ctx)
			info, began = i, body != nil
			if !began {
				body = io.NopCloser(nil)
			}
			return body, err
		})
		switch {
		case err == nil && began:
			return info, body, nil
		case err == nil:
			return info, nil, body.Close()
		}
		if err := m.retry(ctx, mark, "probing again", err); err != nil {
			return Info{}, nil, err
		}
	}
}

// writeTo writes what a reader has to hand out, *rest, to w until next, which
// gets more, returns an error. io.EOF is the proper end.
func writeTo(w io.Writer, rest *[]byte, next func() error) (int64, error) {
	for done := int64(0); ; {
		if err := next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return done, err
		}
		n, err := w.Write(*rest)
		done += int64(n)
		*rest = (*rest)[n:]
		if err != nil {
			return done, err
		}
	}
}
