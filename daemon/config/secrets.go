package config

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
)

// Duration is a time span as Go writes it, such as 90s or 72h, or in days of 24
// hours, such as 90d. A negative one is what could not be read.
type Duration time.Duration

// UnmarshalYAML reads a span. What is none is refused by validate, with its key.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	var text string
	if err := n.Decode(&text); err != nil {
		return err
	}
	span, err := parseSpan(text)
	if err != nil || span < 0 || span > maxSpan {
		span = -1
	}
	*d = Duration(span)
	return nil
}

func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err //nolint:gosec // of 16 bits
	}
	return time.ParseDuration(text)
}

// maxSpan is longer than anybody means.
const maxSpan = 10 * 366 * 24 * time.Hour

// checkSpan refuses what could not be read.
func checkSpan(key string, d Duration, bad func(key, format string, args ...any)) {
	if d < 0 {
		bad(key, "must be a time such as 90s, 15m, 72h or 90d")
	}
}

// PasswordSource says where the vCenter's password is.
func (v VCenter) PasswordSource() secret.Source {
	return secret.Source{
		File: v.PasswordFile, Credential: v.PasswordCredential, Env: v.PasswordEnv, Command: v.PasswordCommand,
		TTL: time.Duration(v.PasswordTTL),
	}
}

// Password reads the password once. credentialsDir is where systemd puts
// credentials ($CREDENTIALS_DIRECTORY). A byte order mark and a trailing line end
// are dropped; an empty password is an error. Who reads it again and again has a
// [secret.Reader] for [VCenter.PasswordSource].
func (v VCenter) Password(credentialsDir string) (string, error) {
	r := secret.NewReader(secret.Options{Getenv: func(name string) string {
		if name == "CREDENTIALS_DIRECTORY" {
			return credentialsDir
		}
		return ""
	}})
	password, err := r.Read(context.Background(), v.PasswordSource())
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	return password, nil
}

// PasswordVariables are the variables of the environment that hold passwords.
func (c Config) PasswordVariables() []string {
	var names []string
	if c.Store.PasswordEnv != "" {
		names = append(names, c.Store.PasswordEnv)
	}
	if l := c.Access.OIDC.SignIn; l != nil && l.ClientSecretEnv != "" {
		names = append(names, l.ClientSecretEnv)
	}
	for _, name := range c.Names() {
		if env := c.VCenters[name].PasswordEnv; env != "" && !slices.Contains(names, env) {
			names = append(names, env)
		}
	}
	return names
}

// SecretPath is [secret.Path].
func SecretPath(file, credential, credentialsDir string) (string, error) {
	return secret.Path(file, credential, credentialsDir)
}

// passwordKeys are the keys that say where a password is.
const passwordKeys = "password_file, password_credential, password_env or password_command"

// checkPassword checks where a vCenter's password is to come from.
func checkPassword(p string, v VCenter, bad func(key, format string, args ...any)) {
	switch v.PasswordSource().Set() {
	case 0:
		bad(p+"password_file", "is missing: put the password into a file of its own, or name a systemd credential in password_credential, "+
			"a variable in password_env, or a program in password_command")
	case 1:
	default:
		if v.PasswordFile != "" && v.PasswordCredential != "" {
			bad(p+"password_file", "excludes password_credential: give one of them")
		} else {
			bad(p+"password", "comes from one place only: give one of %s", passwordKeys)
		}
	}
	checkSource(p+"password", v.PasswordSource(), bad)
}

// checkSource checks each place that a secret may come from. The keys that say so begin
// with p.
func checkSource(p string, s secret.Source, bad func(key, format string, args ...any)) {
	if s.File != "" && !filepath.IsAbs(s.File) {
		bad(p+"_file", "must be an absolute path")
	}
	if strings.ContainsAny(s.Credential, "/\x00") || s.Credential == "." || s.Credential == ".." {
		bad(p+"_credential", "must be the name of a systemd credential, not a path")
	}
	if s.Env != "" && !validVariable(s.Env) {
		bad(p+"_env", "must be the name of a variable, in letters, digits and _, and not its value")
	}
	if len(s.Command) > 0 && !validProgram(s.Command[0]) {
		bad(p+"_command", "must begin with a program: its absolute path, or its name in the daemon's PATH, and its arguments as further elements; there is no shell")
	}
	if slices.ContainsFunc(s.Command, func(arg string) bool { return strings.ContainsRune(arg, 0) }) {
		bad(p+"_command", "must not hold a NUL byte")
	}
	checkSpan(p+"_ttl", Duration(s.TTL), bad)
	if s.TTL != 0 && len(s.Command) == 0 {
		bad(p+"_ttl", "needs %s_command: everything else is read each time", p[strings.LastIndexByte(p, '.')+1:])
	}
}

// validProgram reports whether name is that of a program wherever the daemon was
// started: an absolute path, or a plain name.
func validProgram(name string) bool {
	return strings.HasPrefix(name, "/") || name != "" && !strings.ContainsAny(name, "/ \t\n")
}

func validVariable(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != "" && len(name) <= 256
}
