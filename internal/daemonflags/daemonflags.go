// Package daemonflags holds how programs are told to reach a daemon: the flags and
// environment of its certificate, theirs, and their token. No flag takes a token
// itself, because everybody on a machine can read command lines.
package daemonflags

import (
	"errors"
	"net/http"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
)

// tokenEnv holds a token.
const tokenEnv = "HYPER2KVM_TOKEN"

// Flags are those of a program that speaks to a daemon. usage is of its -daemon.
func Flags(usage string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "daemon", Usage: usage, Sources: cli.EnvVars("HYPER2KVM_DAEMON", "H2KVM_DAEMON")},
		&cli.StringFlag{Name: "ca-file", Usage: "PEM `FILE` of the authority that signed the daemon's certificate", Sources: cli.EnvVars("HYPER2KVM_CA_FILE")},
		&cli.StringFlag{Name: "cert-file", Usage: "PEM `FILE` of a client certificate", Sources: cli.EnvVars("HYPER2KVM_CERT_FILE")},
		&cli.StringFlag{Name: "key-file", Usage: "PEM `FILE` of its key", Sources: cli.EnvVars("HYPER2KVM_KEY_FILE")},
		&cli.StringFlag{Name: "token-file", Usage: "`FILE` with an API token; " + tokenEnv + " may hold the token itself", Sources: cli.EnvVars("HYPER2KVM_TOKEN_FILE")},
	}
}

// Options are the client's, as flags and environment say. A token file comes before a
// token in the environment.
func Options(cmd *cli.Command, getenv func(string) string, userAgent string) client.Options {
	o := client.Options{
		UserAgent: userAgent,
		CAFile:    cmd.String("ca-file"),
		CertFile:  cmd.String("cert-file"),
		KeyFile:   cmd.String("key-file"),
		TokenFile: cmd.String("token-file"),
	}
	if o.TokenFile == "" {
		o.Token = getenv(tokenEnv)
	}
	return o
}

// Hint is what to do about an error of the client, or "".
func Hint(err error) string {
	var answer *client.Error
	if errors.As(err, &answer) && answer.Status == http.StatusUnauthorized {
		return "a token is read from -token-file, HYPER2KVM_TOKEN_FILE or " + tokenEnv
	}
	return ""
}

// Local is where the daemon of -daemon is, and without that the one of this machine,
// by its socket or on loopback. hint says why a socket that is there is not used.
func Local(cmd *cli.Command, socket string) (url string, hint error) {
	if url := cmd.String("daemon"); url != "" {
		return url, nil
	}
	return client.Local(socket)
}
