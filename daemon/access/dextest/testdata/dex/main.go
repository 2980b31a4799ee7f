// Command dex is the identity provider dex with the clients hyper2kvm, which has a
// secret, and public, which has none, and one user who is always logged in and belongs
// to the group authors. Its arguments are URLs that browsers of the first may be sent back to. It prints
// its issuer's URL and serves until its input ends. It is a witness that owes nothing to
// this project's code, and lives in a module of its own so that the product does not
// depend on it.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/sirupsen/logrus"
)

// valid is how long an ID token is.
const valid = 10 * time.Minute

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	issuer := "http://" + l.Addr().String() + "/dex"
	logger := logrus.New()
	logger.SetOutput(os.Stderr)
	s := memory.New(logger)
	for _, c := range []storage.Client{
		{ID: "hyper2kvm", Secret: "secret", RedirectURIs: os.Args[1:]},
		{ID: "public", Public: true}, // dex lets it be on any port of localhost
	} {
		if err := s.CreateClient(c); err != nil {
			log.Fatal(err)
		}
	}
	if err := s.CreateConnector(storage.Connector{ID: "mock", Type: "mockCallback", Name: "mock"}); err != nil {
		log.Fatal(err)
	}
	refresh, err := server.NewRefreshTokenPolicy(logger, false, "", "", "")
	if err != nil {
		log.Fatal(err)
	}
	d, err := server.NewServer(context.Background(), server.Config{
		Issuer: issuer, Storage: s, SkipApprovalScreen: true, Logger: logger, IDTokensValidFor: valid, RefreshTokenPolicy: refresh,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(issuer)
	go func() { log.Fatal(http.Serve(l, d)) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
}
