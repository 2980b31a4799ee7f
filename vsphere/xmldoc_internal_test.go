package vsphere

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

func TestXMLIsReadAsServicesWriteIt(t *testing.T) {
	t.Parallel()
	const answer = `<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment with <tags> -->
<soapenv:Envelope xmlns:soapenv='http://schemas.xmlsoap.org/soap/envelope/' note="a > b">
 <soapenv:Body>
  <RetrievePropertiesExResponse xmlns="urn:vim25"><returnval>
   <token> 1 </token><token>second</token>
   <vim:obj xmlns:vim="urn:vim25" type="VirtualMachine" xsi:type="vim:ManagedObjectReference">vm-1</vim:obj>
   <text>a &lt;&amp;&gt; &quot;b&quot; &apos;&#252;&#x540D;<![CDATA[<raw> & so]]></text>
   <empty/><void attr = "x" ></void>
  </returnval></RetrievePropertiesExResponse>
 </soapenv:Body>
</soapenv:Envelope>
`
	d, err := parseXML(answer)
	if err != nil {
		t.Fatal(err)
	}
	at := d.find(0, "Envelope", "Body", "RetrievePropertiesExResponse", "returnval")
	if got := d.value(at, "text"); got != `a <&> "b" 'ü名<raw> & so` {
		t.Errorf("text %q", got)
	}
	if d.number(at, "token") != 1 || d.value(at, "empty") != "" || d.value(at, "none") != "" || d.find(at, "none", "below") != 0 {
		t.Errorf("document %+v", d)
	}
	if obj := d[d.find(at, "obj")]; obj.ref != "VirtualMachine" || obj.kind != "ManagedObjectReference" || obj.text != "vm-1" {
		t.Errorf("reference %+v", obj)
	}
	var names []string
	for i := range d.children(at) {
		names = append(names, d[i].name)
	}
	if want := "token token obj text empty void"; strings.Join(names, " ") != want {
		t.Errorf("children %v, want %s", names, want)
	}
}

func TestXMLThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "text", "<", "<a", "<a>", "<a><b></a></b>", "</a>", "<a></b>", "<a b></a>", `<a b="c></a>`, "<a>&nbsp;</a>", "<a>&#xD800;</a>",
		"<a>&</a>", "<a><![CDATA[x</a>", "<a><!-- </a>", "<!DOCTYPE a><a></a>", "<a/ >", "< a></a>", "<a x=1></a>", "<?xml",
	} {
		if d, err := parseXML(s); err == nil {
			t.Errorf("%q gives %+v", s, d)
		}
	}
}

// collected is what a walk takes from an answer, in the shape of govmomi's.
func collected(t *testing.T, raw []byte) (token string, objects []types.ObjectContent) {
	t.Helper()
	doc, err := parseXML(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	result, err := resultOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	err = takeObjects(doc, result, func(o object) {
		c := types.ObjectContent{Obj: types.ManagedObjectReference{Type: o.Kind, Value: o.Ref}}
		o.each(func(name string, val int32) {
			p := types.DynamicProperty{Name: name}
			switch {
			case o.doc[val].child != 0:
				var refs types.ArrayOfManagedObjectReference
				for i := range o.doc.children(val) {
					refs.ManagedObjectReference = append(refs.ManagedObjectReference,
						types.ManagedObjectReference{Type: o.doc[i].ref, Value: o.doc[i].text})
				}
				p.Val = refs
			case o.doc[val].ref != "":
				p.Val = types.ManagedObjectReference{Type: o.doc[val].ref, Value: o.doc[val].text}
			default:
				p.Val = o.doc[val].text
			}
			c.PropSet = append(c.PropSet, p)
		})
		objects = append(objects, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return doc.value(result, "token"), objects
}

func FuzzCollectorAnswer(f *testing.F) {
	f.Add("token-1", "vm-1", "name", "a/b <&> \"ü\" 名")
	f.Add("", "vm-%2f", "summary.config", " spaces\tand\nlines ")
	f.Fuzz(func(t *testing.T, token, ref, name, value string) {
		for _, s := range []string{token, ref, name, value} {
			// What XML cannot hold, the encoder replaces; carriage returns too.
			if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r >= 0xFFFD }) {
				t.Skip()
			}
		}
		want := []types.ObjectContent{{
			Obj: types.ManagedObjectReference{Type: "Folder", Value: ref},
			PropSet: []types.DynamicProperty{
				{Name: name, Val: value},
				{Name: "parent", Val: types.ManagedObjectReference{Type: "Datacenter", Value: ref}},
				{Name: "childEntity", Val: types.ArrayOfManagedObjectReference{ManagedObjectReference: []types.ManagedObjectReference{
					{Type: "VirtualMachine", Value: ref}, {Type: "Folder", Value: value},
				}}},
			},
		}}
		raw, err := xml.Marshal(soap.Envelope{Body: &methods.RetrievePropertiesExBody{
			Res: &types.RetrievePropertiesExResponse{Returnval: &types.RetrieveResult{Token: token, Objects: want}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		gotToken, got := collected(t, raw)
		if d := cmp.Diff(want, got); d != "" || gotToken != token {
			t.Errorf("token %q, want %q; objects (-want +got)\n%s\nfrom %s", gotToken, token, d, raw)
		}
	})
}

func FuzzXML(f *testing.F) {
	for _, s := range []string{"<a/>", `<a b="c">d<e>&lt;</e></a>`, "<a><![CDATA[x]]></a>", "<?xml?><!--x--><a></a>", "<a:b c:type='d:e'/>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseXML(s)
		if err != nil {
			return
		}
		seen := 0
		for i := range d {
			for c := range d.children(int32(i)) {
				if c <= int32(i) {
					t.Fatalf("child %d of %d: the elements go in circles", c, i)
				}
				seen++
			}
		}
		if seen != len(d)-1 {
			t.Errorf("%d elements, %d of them have a parent", len(d)-1, seen)
		}
	})
}
