package config

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
)

// Store is a PostgreSQL database that the daemon shares with others. Without a URL the
// jobs are in a SQLite file in the state directory. In the file it is a URL, or a
// section.
type Store struct {
	URL                string   `yaml:"url"` // postgres://user@host/database?sslmode=verify-full, without a password
	PasswordFile       string   `yaml:"password_file"`
	PasswordCredential string   `yaml:"password_credential"`
	PasswordEnv        string   `yaml:"password_env"`
	PasswordCommand    []string `yaml:"password_command"`
	PasswordTTL        Duration `yaml:"password_ttl"` // of what the command says; 0 is package secret's default
	// Connections is how many the daemon opens at most, beside one that listens; 0 is
	// the default.
	Connections Count `yaml:"connections"`
	// TakeoverAfter is after how long without a sign of life the jobs of a daemon are
	// taken over by others; 0 is the default.
	TakeoverAfter Duration `yaml:"takeover_after"`
}

// Bounds of Store.Connections.
const (
	minStoreConnections = 3
	maxStoreConnections = 200
)

// Bounds of Store.TakeoverAfter. Below the least, a busy machine loses its jobs.
const (
	minTakeover = 6 * time.Second
	maxTakeover = time.Hour
)

// storeKeys are the keys of the section.
var storeKeys = []string{"url", "password_file", "password_credential", "password_env", "password_command", "password_ttl", "connections", "takeover_after"}

// UnmarshalYAML reads a URL or a section.
func (s *Store) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&s.URL)
	}
	if n.Kind == yaml.MappingNode { // what a node decodes is not held to known keys
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; !slices.Contains(storeKeys, key.Value) {
				return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: field %s not found in type config.Store", key.Line, key.Value)}}
			}
		}
	}
	type section Store
	return n.Decode((*section)(s))
}

// PasswordSource says where the password is; with none set, the server wants none.
func (s Store) PasswordSource() secret.Source {
	return secret.Source{
		File: s.PasswordFile, Credential: s.PasswordCredential, Env: s.PasswordEnv, Command: s.PasswordCommand,
		TTL: time.Duration(s.PasswordTTL),
	}
}

// CheckStoreURL tells what is wrong with the URL of a store. The error quotes no part of
// it.
func CheckStoreURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return fmt.Errorf("must be postgres://user@host/database?sslmode=verify-full, or left out for a file in the state directory")
	}
	query := u.Query()
	if _, set := u.User.Password(); set || query.Has("password") || query.Has("sslpassword") {
		return fmt.Errorf("must not hold a password: put it into a file of its own (password_file), or say where it is by one of %s", passwordKeys)
	}
	return nil
}

func (s Store) validate(bad func(key, format string, args ...any)) {
	source := s.PasswordSource()
	if s.URL != "" {
		if err := CheckStoreURL(s.URL); err != nil {
			bad("store.url", "%v", err)
		}
	}
	if source.Set() > 1 {
		bad("store.password", "comes from one place only: give one of %s", passwordKeys)
	}
	checkSource("store.password", source, bad)
	if s.Connections != 0 && (s.Connections < minStoreConnections || s.Connections > maxStoreConnections) {
		bad("store.connections", "must be %d to %d, or absent for the default", minStoreConnections, maxStoreConnections)
	}
	if after := time.Duration(s.TakeoverAfter); after != 0 && (after < minTakeover || after > maxTakeover) {
		bad("store.takeover_after", "must be a span of %v to %v, such as 2m, or absent for the default", minTakeover, maxTakeover)
	}
}
