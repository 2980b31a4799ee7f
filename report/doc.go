// Package report is what people hand to others about many VMs at once: which of them
// can be exported, and why not ([Readiness]), and what came of a run ([Run]). Each is
// written as text for a terminal, as JSON, and as one HTML page that needs no script
// and nothing from elsewhere; readiness also as CSV.
//
// Text from outside, such as a VM's name, is made safe for where it goes: control
// characters for a terminal, markup for HTML, formulas for a spreadsheet.
package report
