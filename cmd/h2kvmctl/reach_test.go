package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
)

// status runs h2kvmctl status where this machine's daemon has its socket at path.
func status(path string, args ...string) (string, error) {
	var out bytes.Buffer
	a := &app{Printer: terminal.New(&out, &out), socket: path}
	err := a.root().Run(context.Background(), append([]string{"h2kvmctl", "status"}, args...))
	return out.String(), err
}

func TestThisMachinesDaemonIsFoundAtItsSocket(t *testing.T) {
	d := apitest.Start(t, api.Options{Version: "socket-1"})
	dir, err := os.MkdirTemp("", "h2k")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "d.sock")
	set, err := listen.Open(t.Context(), listen.Options{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	srv := d.API.Server()
	set.Attach(srv)
	go srv.Serve(set.Listeners()[0]) //nolint:errcheck // it ends with the test
	defer srv.Close()
	t.Setenv("H2KVM_DAEMON", "")
	t.Setenv("HYPER2KVM_DAEMON", "")
	if out, err := status(path); err != nil || !strings.Contains(out, "socket-1") {
		t.Errorf("%v: %s", err, out)
	}
	// What is named comes before the socket.
	if _, err := status(path, "-daemon", "http://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1 cannot be reached") {
		t.Errorf("a daemon that is named: %v", err)
	}
	t.Setenv("HYPER2KVM_DAEMON", "http://127.0.0.1:2")
	if _, err := status(path); err == nil || !strings.Contains(err.Error(), "127.0.0.1:2 cannot be reached") {
		t.Errorf("a daemon that the environment names: %v", err)
	}
}

func TestATokenComesFromAFileOrTheEnvironment(t *testing.T) {
	sent := make(chan string, 1)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l) //nolint:errcheck // it ends with the test
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("h2k_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	for _, tt := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, nil, ""},
		{map[string]string{"HYPER2KVM_TOKEN": "h2k_env"}, nil, "Bearer h2k_env"},
		{map[string]string{"HYPER2KVM_TOKEN_FILE": file, "HYPER2KVM_TOKEN": "h2k_env"}, nil, "Bearer h2k_file"},
		{map[string]string{"HYPER2KVM_TOKEN": "h2k_env"}, []string{"-token-file", file}, "Bearer h2k_file"},
	} {
		for _, name := range []string{"HYPER2KVM_TOKEN", "HYPER2KVM_TOKEN_FILE"} {
			t.Setenv(name, tt.env[name])
		}
		var out, errOut bytes.Buffer
		code := run(context.Background(), append([]string{"h2kvmctl", "-daemon", url, "status"}, tt.args...), nil, &out, &errOut)
		if got := <-sent; got != tt.want || code != exitRefused || !strings.Contains(errOut.String(), "a token is read from -token-file") {
			t.Errorf("%+v: sent %q, exit code %d: %s", tt, got, code, &errOut)
		}
		if strings.Contains(errOut.String()+out.String(), "h2k_") {
			t.Errorf("the token is shown: %s", &errOut)
		}
	}
	t.Setenv("HYPER2KVM_TOKEN", "h2k_env")
	var errOut bytes.Buffer
	if code := run(context.Background(), []string{"h2kvmctl", "-daemon", "http://export.example.com", "status"}, nil, &bytes.Buffer{}, &errOut); code != exitUsage ||
		!strings.Contains(errOut.String(), "a token is not sent to http://export.example.com over plain http") {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
}
