package findings

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// stranger is a field of a JSON text that a type does not have.
type stranger struct {
	path string // as lease.rnage
	end  int64  // of its name, in bytes from the start
}

// firstStranger finds the first field in b that typ does not have; nil when there is
// none. b is JSON of the shape of typ.
func firstStranger(b []byte, typ reflect.Type) *stranger {
	return findStranger(json.NewDecoder(bytes.NewReader(b)), typ, "")
}

func findStranger(dec *json.Decoder, typ reflect.Type, path string) *stranger {
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	token, err := dec.Token()
	if err != nil {
		return nil
	}
	switch token {
	case json.Delim('['):
		for dec.More() {
			if s := findStranger(dec, elemOf(typ), path+"[]"); s != nil {
				return s
			}
		}
	case json.Delim('{'):
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil
			}
			at := strings.TrimPrefix(path+"."+name.(string), ".")
			of, known := fieldOf(typ, name.(string))
			if !known {
				return &stranger{at, dec.InputOffset()}
			}
			if s := findStranger(dec, of, at); s != nil {
				return s
			}
		}
	default:
		return nil
	}
	_, _ = dec.Token() // the end of it
	return nil
}

// elemOf is the type of the elements of a list or map; nil for anything else.
func elemOf(typ reflect.Type) reflect.Type {
	if typ != nil && (typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map) {
		return typ.Elem()
	}
	return nil
}

// fieldOf is the type of the field with a JSON name, as package json finds it. What is no
// object has every field.
func fieldOf(typ reflect.Type, name string) (reflect.Type, bool) {
	if typ == nil || typ.Kind() != reflect.Struct {
		return elemOf(typ), true
	}
	for f := range typ.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" && f.Anonymous {
			if of, known := fieldOf(f.Type, name); known {
				return of, true
			}
		}
		if tag != "" && strings.EqualFold(tag, name) {
			return f.Type, true
		}
	}
	return nil, false
}
