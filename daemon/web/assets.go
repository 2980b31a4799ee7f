package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

//go:embed static/*.js static/*.css static/*.svg
var staticFiles embed.FS

// assets are the files of static/ by name.
type assets map[string]asset

type asset struct {
	hash   string // of the content; a part of its address, so that it can be kept for good
	kind   string // media type
	text   []byte
	zipped []byte
}

// hashLen is how many hexadecimal digits of a file's SHA-256 stand in its address.
const hashLen = 16

func loadAssets() assets {
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic(err) // they are embedded
	}
	kinds := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	all := make(assets)
	for _, e := range entries {
		text, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(text)
		var zipped bytes.Buffer
		z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is a valid one
		_, _ = z.Write(text)                                       // into memory
		_ = z.Close()
		all[e.Name()] = asset{hex.EncodeToString(sum[:])[:hashLen], kinds[path.Ext(e.Name())], text, zipped.Bytes()}
	}
	return all
}

// url is the address of a file.
func (a assets) url(name string) string {
	return api.PagesPath + "static/" + a[name].hash + "/" + name
}

// serve answers with a file, which a browser may keep for good: another content has
// another address.
func (a assets) serve(w http.ResponseWriter, r *http.Request) {
	file, ok := a[r.PathValue("name")]
	if !ok || file.hash != r.PathValue("hash") {
		http.Error(w, "no such file: reload the page", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	text := file.text
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		text = file.zipped
	}
	_, _ = w.Write(text) // an error is a client that has gone
}
