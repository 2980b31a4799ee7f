package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// As in "hyper2kvm list | head": whoever wanted a few lines has them.
func TestACommandWhoseReaderHasGoneEndsQuietly(t *testing.T) {
	t.Parallel()
	program := program(t)
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "erp"}}})
	for _, args := range [][]string{
		{"list"}, {"list", "-json"}, {"version"}, {"-help"}, {"completion", "bash"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := command(program, lab, args...)
		var told bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &told
		err = cmd.Run()
		w.Close()
		if err != nil || told.Len() > 0 {
			t.Errorf("%q: %v, and it says %q", args, err, &told)
		}
	}
	if n := lab.Sessions(); n > 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestWhatIsNoVSphereIsNoConnection(t *testing.T) {
	t.Parallel()
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	urls := map[string]string{}
	for name, h := range map[string]http.HandlerFunc{
		"no such path":     answer(http.StatusNotFound, "not found"),
		"no such method":   answer(http.StatusMethodNotAllowed, ""),
		"a page":           answer(http.StatusOK, "<html>welcome</html>"),
		"a page in XML":    answer(http.StatusOK, "<Envelope><Body><welcome/></Body></Envelope>"),
		"half an envelope": answer(http.StatusOK, "<Envelope>"),
		"JSON":             answer(http.StatusOK, `{"ok": true}`),
		"a gate":           answer(http.StatusForbidden, ""),
		"a login":          answer(http.StatusUnauthorized, ""),
		"elsewhere":        answer(http.StatusMovedPermanently, ""),
		"an error page":    answer(http.StatusInternalServerError, "<html>oops</html>"),
		"a bad gateway":    answer(http.StatusBadGateway, ""),
	} {
		srv := httptest.NewTLSServer(h)
		t.Cleanup(srv.Close)
		urls[name] = srv.URL + "/sdk"
	}
	plain := httptest.NewServer(answer(http.StatusOK, ""))
	t.Cleanup(plain.Close)
	urls["no TLS"] = strings.Replace(plain.URL, "http:", "https:", 1) + "/sdk"
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	urls["nobody"] = "https://" + deaf.Addr().String() + "/sdk"
	deaf.Close()
	urls["no such name"] = "https://nosuch.invalid/sdk"
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"GOVC_URL": url, "GOVC_USERNAME": "u", "GOVC_PASSWORD": "p", "GOVC_INSECURE": "true"}
			var out, errOut strings.Builder
			if code := run(t.Context(), []string{"hyper2kvm", "list"}, &out, &errOut, func(k string) string { return env[k] }); code != exitConnect {
				t.Errorf("exit code %d: %s", code, &errOut)
			}
			if !strings.Contains(errOut.String(), strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/sdk")) {
				t.Errorf("it does not name the address: %s", &errOut)
			}
		})
	}
}
