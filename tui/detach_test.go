package tui

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// endless is a backend whose jobs run until they are told to stop.
type endless struct{ ended }

func (endless) Export(ctx context.Context, _ *runs.Job) (job.Result, error) {
	<-ctx.Done()
	return job.Result{}, ctx.Err()
}

// receiver is a daemon that is asked to take jobs over.
type receiver struct {
	knows    string           // UUID of the VM that its own vCenter has; "" for none
	findings []models.Finding // of each check
	refuses  bool             // what is submitted
	got      []string         // bodies
}

func (d *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.got = append(d.got, r.URL.Path+" "+string(body))
	switch {
	case strings.HasSuffix(r.URL.Path, "/check"):
		uuid := d.knows
		if strings.Contains(string(body), `"password"`) {
			uuid = "uuid-1"
		}
		result := models.CheckResult{Findings: d.findings}
		if uuid != "" {
			result.VM = &models.VM{UUID: uuid}
		}
		_ = json.NewEncoder(w).Encode(result)
	case strings.HasSuffix(r.URL.Path, "/submit") && !d.refuses:
		_ = json.NewEncoder(w).Encode(models.SubmitResult{JobIDs: []string{"a", "b"}, Accepted: 2})
	default:
		w.WriteHeader(http.StatusForbidden)
	}
}

// offered runs two jobs and offers them to d, on a socket or on a port.
func offered(t *testing.T, d *receiver, socket bool) (*runs.Group, []runs.Spec, error) {
	t.Helper()
	srv := httptest.NewUnstartedServer(d)
	address := ""
	if socket {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = srv.Listener.Close()
		srv.Listener, address = l, "unix://"+path
	}
	srv.Start()
	t.Cleanup(srv.Close)
	if !socket {
		address = srv.URL
	}
	def := func(name string) job.Definition {
		return job.Definition{Name: name, VMPath: "/DC0/vm/" + name, OutputPath: "/srv/" + name}
	}
	g := runs.NewGroup(endless{}, []runs.Spec{{Name: "a", Ref: "vm-1", Def: def("a")}, {Name: "b", Ref: "vm-2", Def: def("b")}}, runs.Options{Parallel: 1})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-over })
	for running := false; !running; {
		changed := g.Changed()
		if running = g.Statuses()[0].State == runs.Running; !running {
			<-changed
		}
	}
	h := handover{
		cfg:   vsphere.Config{URL: &url.URL{Scheme: "https", Host: "vc", Path: "/sdk"}, Username: "me", Password: "Sesame!"},
		uuids: map[string]string{"vm-1": "uuid-1", "vm-2": "uuid-2"},
	}
	c, err := client.New(address, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	specs, _, err := h.give(t.Context(), c, g)
	return g, specs, err
}

func TestADaemonThatKnowsTheVMGetsTheJobsWithoutCredentials(t *testing.T) {
	t.Parallel()
	d := &receiver{knows: "uuid-1"}
	g, specs, err := offered(t, d, true)
	if err != nil || len(specs) != 2 || specs[0].ID != "a" || specs[1].ID != "b" || !g.Ended() {
		t.Fatalf("%v, %v", specs, err)
	}
	if all := strings.Join(d.got, "\n"); strings.Contains(all, "Sesame") {
		t.Errorf("it was given the password:\n%s", all)
	}
}

func TestADaemonThatDoesNotKnowTheVMGetsCredentialsOverItsSocketOnly(t *testing.T) {
	t.Parallel()
	d := &receiver{knows: "another"}
	if _, specs, err := offered(t, d, true); err != nil || len(specs) != 2 || !strings.Contains(d.got[len(d.got)-1], "Sesame!") {
		t.Errorf("over the socket: %v, %v", specs, err)
	}
	d = &receiver{}
	g, _, err := offered(t, d, false)
	if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "does not know /DC0/vm/a") || strings.Contains(strings.Join(d.got, ""), "Sesame") {
		t.Errorf("over a port: %v", err)
	}
	if s := g.Statuses(); s[0].State != runs.Running {
		t.Errorf("the export is %s", s[0].State)
	}
}

func TestADaemonThatCannotWriteThereStopsNothing(t *testing.T) {
	t.Parallel()
	d := &receiver{knows: "uuid-1", findings: []models.Finding{{Severity: models.SeverityError, Code: migrate.CodeOutputDir, Message: "/srv/a: permission denied"}}}
	g, _, err := offered(t, d, false)
	if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
	if s := g.Statuses(); s[0].State != runs.Running || s[1].State != runs.Waiting {
		t.Errorf("the exports are %s and %s", s[0].State, s[1].State)
	}
}

func TestJobsThatTheDaemonRefusesGoOnHere(t *testing.T) {
	t.Parallel()
	g, _, err := offered(t, &receiver{knows: "uuid-1", refuses: true}, false)
	if !errors.Is(err, errRefused) {
		t.Error(err)
	}
	for running := false; !running; {
		changed := g.Changed()
		if s := g.Statuses(); s[0].State == runs.Running && s[1].State == runs.Waiting {
			running = true
		} else {
			<-changed
		}
	}
}
