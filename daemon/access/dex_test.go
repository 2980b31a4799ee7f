package access_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/access/dextest"
)

// callback is where nobody is: the browser does not go there.
const callback = "http://127.0.0.1/callback"

// login is what a browser and a client do (OpenID Connect Core 1.0, section 3.1),
// and returns the token.
func login(t *testing.T, issuer string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	get := func(client *http.Client, req *http.Request) (to *url.URL, body []byte) {
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		to, _ = resp.Location()
		return to, body
	}
	request := func(method, address string, form url.Values) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	asked := url.Values{"client_id": {"hyper2kvm"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid profile email groups"}, "state": {"s"}}
	to, page := get(browser, request("GET", issuer+"/auth?"+asked.Encode(), nil))
	if to == nil {
		t.Fatalf("dex does not send the browser back: %s", page)
	}
	exchange := request("POST", issuer+"/token", url.Values{"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {callback}})
	exchange.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	exchange.SetBasicAuth("hyper2kvm", "secret")
	_, body := get(http.DefaultClient, exchange)
	var answer struct {
		Token string `json:"id_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Token == "" {
		t.Fatalf("%v in %s", err, body)
	}
	return answer.Token
}

func TestATokenOfDexIsTaken(t *testing.T) {
	t.Parallel()
	issuer := dextest.Start(t, callback)
	d := func(o access.OIDCOptions) *door {
		o.Issuer = issuer
		d := newDoor(t, access.Options{OIDC: access.NewOIDC(o)})
		d.now = time.Now()
		return d
	}
	roles := map[string]access.Role{"authors": access.Operator}
	token := login(t, issuer)
	p := d(access.OIDCOptions{Audience: "hyper2kvm", Roles: roles}).wantRole(remote, token, access.Operator)
	if !strings.HasPrefix(p.Name, "kilgore@kilgore.trout (") || p.Via != access.ViaOIDC {
		t.Errorf("%+v", p)
	}
	d(access.OIDCOptions{Audience: "another", Roles: roles}).wantDenied(remote, token, access.Invalid)
	d(access.OIDCOptions{Audience: "hyper2kvm", Roles: roles, Now: func() time.Time { return time.Now().Add(25 * time.Hour) }}).
		wantDenied(remote, token, access.Invalid)
	if p, denied := d(access.OIDCOptions{Audience: "hyper2kvm"}).ask(remote, token); denied != nil || p.Role != access.Nobody {
		t.Errorf("without roles: %+v, %v", p, denied)
	}
}
