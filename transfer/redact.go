package transfer

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// RedactURL returns u for people: scheme, host and path, without user info,
// query and fragment, and with "…" for every element of the path that looks
// like a ticket (16 or more hexadecimal digits and dashes, as in the URLs of an
// NFC lease, F-NFC-5 and F-NFC-7).
func RedactURL(u *url.URL) string {
	if u == nil {
		return "(no URL)"
	}
	elements := strings.Split(u.Path, "/")
	for i, e := range elements {
		if isTicket(e) {
			elements[i] = "…"
		}
	}
	return fmt.Sprintf("%s://%s%s", u.Scheme, u.Host, strings.Join(elements, "/"))
}

func isTicket(s string) bool {
	return len(s) >= 16 && strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}

// redactError takes the URL out of an error of net/http, where it has its
// query and path in full, and names place instead.
func redactError(place string, err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	return fmt.Errorf("GET %s: %w", place, err)
}
