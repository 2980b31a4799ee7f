package collector

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
	d, err := parse(answer, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := d.root().Find("Envelope", "Body", "RetrievePropertiesExResponse", "returnval")
	if got := at.Value("text"); got != `a <&> "b" 'ü名<raw> & so` {
		t.Errorf("text %q", got)
	}
	if at.Number("token") != 1 || at.Value("empty") != "" || at.Value("none") != "" || at.Find("none", "below").Exists() {
		t.Errorf("document %+v", d)
	}
	if obj := at.Find("obj"); obj.RefType() != "VirtualMachine" || obj.Kind() != "ManagedObjectReference" || obj.Text() != "vm-1" {
		t.Errorf("reference %+v", obj)
	}
	var names []string
	for el := range at.Children() {
		names = append(names, el.Name())
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
		if d, err := parse(s, nil, nil); err == nil {
			t.Errorf("%q gives %+v", s, d)
		}
	}
}

// collected is what a walk takes from an answer, in the shape of govmomi's.
func collected(t *testing.T, raw []byte) (token string, objects []types.ObjectContent) {
	t.Helper()
	doc, err := parse(string(raw), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	result, err := resultOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	err = takeObjects(result, func(o Object) {
		c := types.ObjectContent{Obj: types.ManagedObjectReference{Type: o.Kind, Value: o.Ref}}
		for name, val := range o.Properties() {
			p := types.DynamicProperty{Name: name}
			var refs types.ArrayOfManagedObjectReference
			for el := range val.Children() {
				refs.ManagedObjectReference = append(refs.ManagedObjectReference,
					types.ManagedObjectReference{Type: el.RefType(), Value: el.Text()})
			}
			switch {
			case len(refs.ManagedObjectReference) > 0:
				p.Val = refs
			case val.RefType() != "":
				p.Val = types.ManagedObjectReference{Type: val.RefType(), Value: val.Text()}
			default:
				p.Val = val.Text()
			}
			c.PropSet = append(c.PropSet, p)
		}
		objects = append(objects, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return result.Value("token"), objects
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

func TestTheNextPageIsAskedForOnceAndWithoutWaitingForTheEnd(t *testing.T) {
	t.Parallel()
	const head = `<e:Envelope><e:Body><RetrievePropertiesExResponse><returnval>`
	for answer, want := range map[string]string{
		head + `<token>1&amp;</token><objects>`:                                "1&", // the rest is still to be read, or broken
		head + `<token>1</token><token>2</token>`:                              "1",
		head + `<objects><propSet><val><token>x</token></val></propSet>`:       "",
		head + `<objects></objects><token>late</token></returnval>`:            "late",
		`<e:Envelope><e:Body><x><y><returnval><token>deep</token></returnval>`: "",
	} {
		got := ""
		_, _ = parse(answer, nil, func(token string) { got += token })
		if got != want {
			t.Errorf("%s asks for %q, want %q", answer, got, want)
		}
	}
}

func TestWhatIsSkippedIsThereWithoutItsContents(t *testing.T) {
	t.Parallel()
	const answer = `<v:list xmlns:x="x"><v:dev x:type="v:Dull"><key>1</key><broken></v:dev><v:dev x:type="Disk"><key>2</key></v:dev><v:dev x:type="Dull"/><end>3</end></v:list>`
	d, err := parse(answer, func(kind string) bool { return kind == "Dull" }, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for el := range d.root().Find("list").Children() {
		got = append(got, el.Name()+"/"+el.Kind()+"/"+el.Value("key")+el.Text())
	}
	if want := "dev/Dull/ dev/Disk/2 dev/Dull/ end//3"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, s := range []string{`<a x:type="Dull">`, `<a x:type="Dull"></b></a>x</a>`} {
		if d, err := parse(s, func(string) bool { return true }, nil); err == nil {
			t.Errorf("%q gives %+v", s, d)
		}
	}
}

func FuzzXML(f *testing.F) {
	for _, s := range []string{"<a/>", `<a b="c">d<e>&lt;</e></a>`, "<a><![CDATA[x]]></a>", "<?xml?><!--x--><a></a>", "<a:b c:type='d:e'/>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parse(s, nil, nil)
		if err != nil {
			return
		}
		seen := 0
		for i := range d.nodes {
			for c := range (Element{d, int32(i)}).Children() {
				if c.at <= int32(i) {
					t.Fatalf("child %d of %d: the elements go in circles", c.at, i)
				}
				seen++
			}
		}
		if seen != len(d.nodes)-1 {
			t.Errorf("%d elements, %d of them have a parent", len(d.nodes)-1, seen)
		}
	})
}
