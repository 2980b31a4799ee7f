package vsphere

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// FuzzTicket decodes whatever may be answered to the call for a ticket.
func FuzzTicket(f *testing.F) {
	f.Add([]byte(`<returnval><host>esx1.example</host><port>902</port><sslThumbprint>A9:99</sslThumbprint><service>vpxa-nfc</service><serviceVersion>1.1</serviceVersion><sessionId>52aa</sessionId></returnval>`))
	f.Add([]byte(`<returnval><sessionId>52aa</sessionId><url>x</url><service>nfc</service></returnval>`))
	f.Add([]byte(`<returnval><port>99999999999</port></returnval>`))
	c := &Client{cfg: Config{URL: &url.URL{Scheme: "https", Host: "esx.example:8443"}}}
	f.Fuzz(func(t *testing.T, in []byte) {
		dec := xml.NewDecoder(bytes.NewReader([]byte("<NfcGetVmFilesResponse>" + string(in) + "</NfcGetVmFilesResponse>")))
		dec.TypeFunc = types.TypeFunc()
		var res nfcTicket
		if dec.Decode(&res) != nil {
			return
		}
		ticket, err := c.ticketOf(&res)
		if err == nil && (ticket.Host == "" || ticket.SessionID != "" && strings.Contains(ticket.String(), ticket.SessionID) && len(ticket.SessionID) > 20) {
			t.Errorf("%#v", ticket)
		}
	})
}
