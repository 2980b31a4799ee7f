package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
)

func TestSignInAtTheIdentityProviderIsChecked(t *testing.T) {
	t.Parallel()
	const head = "access:\n  oidc:\n    issuer: https://idp.example.com\n    audience: hyper2kvm\n    roles: {staff: viewer}\n    sign_in: "
	for text, want := range map[string]string{
		"{}": "",
		"{client_id: dashboard, scopes: [groups]}":                     "",
		"{client_secret_file: /etc/secret}":                            "",
		"{client_secret_credential: oidc}":                             "",
		"{client_secret_env: OIDC}":                                    "",
		"{client_secret_command: [pass, oidc], client_secret_ttl: 5m}": "",
		"{public_url: https://export.example.com}":                     "",
		"{public_url: https://export.example.com:8443/}":               "",
		"{public_url: http://localhost:8080}":                          "",
		"{public_url: 'http://[::1]:8080'}":                            "",

		"{client_secret: hunter2}":                             "unknown key client_secret",
		"{client_secret_file: hunter2}":                        "access.oidc.sign_in.client_secret_file: must be an absolute path",
		"{client_secret_file: /a, client_secret_env: B}":       "access.oidc.sign_in.client_secret: comes from one place only",
		"{client_secret_credential: a/hunter2}":                "access.oidc.sign_in.client_secret_credential: must be the name",
		"{client_secret_env: 'hunter2!'}":                      "access.oidc.sign_in.client_secret_env: must be the name of a variable",
		"{client_secret_command: [bin/hunter2]}":               "access.oidc.sign_in.client_secret_command: must begin with a program",
		"{client_secret_file: /a, client_secret_ttl: 5m}":      "access.oidc.sign_in.client_secret_ttl: needs client_secret_command",
		"{public_url: export.example.com}":                     "access.oidc.sign_in.public_url: must be the dashboard's address",
		"{public_url: http://hunter2.example.com}":             "access.oidc.sign_in.public_url: must begin with https",
		"{public_url: http://localhost.hunter2.example.com}":   "access.oidc.sign_in.public_url: must begin with https",
		"{public_url: https://export.example.com/ui/}":         "access.oidc.sign_in.public_url: must be the dashboard's address without a path",
		"{public_url: 'https://u:hunter2@export.example.com'}": "access.oidc.sign_in.public_url: must be the dashboard's address",
		"{public_url: 'https://export.example.com?hunter2'}":   "access.oidc.sign_in.public_url: must be the dashboard's address",
		"{public_url: 'https://export.example.com?'}":          "access.oidc.sign_in.public_url: must be the dashboard's address",
		"{public_url: 'https://export.example.com#'}":          "access.oidc.sign_in.public_url: must be the dashboard's address",
		"{public_url: https://export.example.com//}":           "access.oidc.sign_in.public_url: must be the dashboard's address",
		"{public_url: 'https://export.example.com:99999'}":     "access.oidc.sign_in.public_url: must be the dashboard's address",
		"{scopes: ['profile hunter2']}":                        "access.oidc.sign_in.scopes[0]: must be one scope",
	} {
		_, err := config.Decode(strings.NewReader(head+text+"\n"), "c.yaml")
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
	if _, err := config.Decode(strings.NewReader("access: {oidc: {sign_in: {client_id: a}}}"), "c.yaml"); err == nil || !strings.Contains(err.Error(), "access.oidc.issuer: is missing") {
		t.Error(err)
	}
	c, err := config.Decode(strings.NewReader(head+"{client_secret_env: OIDC_SECRET}\n"), "c.yaml")
	if err != nil || !slices.Contains(c.PasswordVariables(), "OIDC_SECRET") {
		t.Error("commands get the secret in their environment:", c.PasswordVariables(), err)
	}
}
