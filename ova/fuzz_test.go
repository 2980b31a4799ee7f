package ova_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/ova"
)

// oneOfOurs reports whether an error has an identity.
func oneOfOurs(err error) bool {
	return errors.Is(err, ova.ErrInvalid) || errors.Is(err, ova.ErrUnsupported) || errors.Is(err, ova.ErrMissing) ||
		errors.Is(err, ova.ErrTruncated) || errors.Is(err, ova.ErrChecksum)
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifestOf(ova.SHA1, "a", "b") + manifestOf(ova.SHA512, "a(1)= x", "b")))
	f.Add([]byte("SHA256 (./a) = 00\r\n\r\nSHA-256(b)=zz"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := ova.ParseManifest(text)
		if err != nil && !oneOfOurs(err) {
			t.Fatalf("an error without an identity: %v", err)
		}
		for _, e := range entries {
			if e.File == "" || len(e.Sum) != e.Algorithm.New().Size() {
				t.Fatalf("an entry that cannot be: %+v", e)
			}
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	f.Add([]byte(envelope))
	f.Add([]byte(`<Envelope><References><File/></References><VirtualSystem><VirtualHardwareSection><Item><Parent>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ova.ParseEnvelope(text)
		if err != nil {
			if !oneOfOurs(err) {
				t.Fatalf("an error without an identity: %v", err)
			}
			return
		}
		if len(e.Systems) != 1 {
			t.Fatalf("%d systems", len(e.Systems))
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add(archive(f, regular("erp.ovf", envelope), regular("erp.mf", manifestOf(ova.SHA256, "disk.vmdk", "data")), regular("disk.vmdk", "data")))
	f.Add([]byte(envelope))
	path := filepath.Join(f.TempDir(), "erp.ova") // one for all, because making directories takes longest
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := ova.Open(path)
		if err != nil {
			if !oneOfOurs(err) {
				t.Fatalf("an error without an identity: %v", err)
			}
			return
		}
		defer p.Close()
		for _, ref := range p.Envelope.Files {
			if file, err := p.File(ref.Href); err == nil {
				_, _ = file.ReadAt(make([]byte, 512), 0)
			}
		}
	})
}
