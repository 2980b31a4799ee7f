package vspheretest_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// soapCall sends a call as a client does that knows no library, and returns the answer.
func soapCall(t *testing.T, srv *vspheretest.Server, client *http.Client, body string) string {
	t.Helper()
	u := *srv.URL()
	u.User = nil
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), strings.NewReader(
		`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>`+body+`</soapenv:Body></soapenv:Envelope>`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	req.Header.Set("SOAPAction", `"urn:vim25"`)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// cookies keeps the session's cookie byte for byte, as vSphere's has quotes in it.
type cookies struct {
	base   http.RoundTripper
	cookie string
}

func (c *cookies) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.cookie != "" {
		r.Header.Set("Cookie", c.cookie)
	}
	res, err := c.base.RoundTrip(r)
	if err == nil && res.Header.Get("Set-Cookie") != "" {
		c.cookie, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
	}
	return res, err
}

func loggedIn(t *testing.T, srv *vspheretest.Server) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: &cookies{base: transport}}
	pass, _ := srv.URL().User.Password()
	soapCall(t, srv, client, fmt.Sprintf(`<Login xmlns="urn:vim25"><_this type="SessionManager">SessionManager</_this><userName>%s</userName><password>%s</password></Login>`, srv.URL().User.Username(), pass))
	return client
}

func TestATicketIsAnsweredAsTheWireWantsIt(t *testing.T) {
	t.Parallel()
	srv := vspheretest.Start(t, vspheretest.Config{NFC902: true, VMs: []vspheretest.VM{{Name: "guest1"}}})
	client := loggedIn(t, srv)
	content := soapCall(t, srv, client, `<RetrieveInternalContent xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></RetrieveInternalContent>`)
	if !strings.Contains(content, `<nfcService type="NfcService">NfcService</nfcService>`) {
		t.Errorf("no service: %s", content)
	}
	vm := srv.VMRef("guest1")
	answer := soapCall(t, srv, client, `<NfcGetVmFiles xmlns="urn:vim25"><_this type="NfcService">NfcService</_this><vm type="VirtualMachine">`+vm+`</vm></NfcGetVmFiles>`)
	for _, want := range []string{"<NfcGetVmFilesResponse", "<returnval><host>127.0.0.1</host><port>", "<sslThumbprint>" + srv.HostThumbprint(0), "<service>vpxa-nfc</service><serviceVersion>1.1</serviceVersion><sessionId>"} {
		if !strings.Contains(answer, want) {
			t.Errorf("%s is not in %s", want, answer)
		}
	}
	version := soapCall(t, srv, client, `<NfcGetServerNfcLibVersion xmlns="urn:vim25"><_this type="NfcService">NfcService</_this><hostForAccess type="HostSystem">host-1</hostForAccess></NfcGetServerNfcLibVersion>`)
	if !strings.Contains(version, ">11</returnval>") {
		t.Error(version)
	}
}

func TestWhoeverAsksToWriteIsRefusedAndNoticed(t *testing.T) {
	t.Parallel()
	srv, err := vspheretest.New(vspheretest.Config{NFC902: true, VMs: []vspheretest.VM{{Name: "guest1"}}, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	client := loggedIn(t, srv)
	methods := []string{"NfcRandomAccessOpenDisk", "NfcRandomAccessOpen", "NfcRandomAccessFileOpen", "NfcPutVmFiles", "NfcFileManagement", "NfcSystemManagement"}
	for _, m := range methods {
		answer := soapCall(t, srv, client, `<`+m+` xmlns="urn:vim25"><_this type="NfcService">NfcService</_this><vm type="VirtualMachine">vm-1</vm></`+m+`>`)
		if !strings.Contains(answer, "NotSupportedFault") {
			t.Errorf("%s: %s", m, answer)
		}
	}
	if got := srv.Violations(); len(got) != len(methods) {
		t.Errorf("noticed: %q", got)
	}
}

func TestNobodyGetsATicketWithoutASession(t *testing.T) {
	t.Parallel()
	srv := vspheretest.Start(t, vspheretest.Config{NFC902: true, VMs: []vspheretest.VM{{Name: "guest1"}}})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	answer := soapCall(t, srv, &http.Client{Transport: transport}, `<NfcGetVmFiles xmlns="urn:vim25"><_this type="NfcService">NfcService</_this><vm type="VirtualMachine">vm-1</vm></NfcGetVmFiles>`)
	if !strings.Contains(answer, "NotAuthenticated") || bytes.Contains([]byte(answer), []byte("sessionId")) {
		t.Error(answer)
	}
}
