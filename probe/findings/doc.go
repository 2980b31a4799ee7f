// Package findings is the report of a probe: what was seen at a vSphere, in words
// from a closed vocabulary. [Decode] reads one, [Report.Encode] writes one, and
// [Report.Lines] says what it means.
//
// Nothing in a report tells whose vSphere it is about: there is no field for a name, an
// address, an id, a certificate, a path, or the text of an error. What a field may hold
// stands in its tag, and Decode refuses everything else.
//
// The lab vCenter reads the same reports, and behaves as they say.
package findings
