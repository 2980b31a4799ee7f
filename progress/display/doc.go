// Package display shows a run's progress to a person or to a program.
//
// A [Printer] samples a [progress.Tracker]; the run never waits for it. There
// are three:
//
//   - [Bars], for a terminal: a bar for each file and one for the total, with
//     rate and remaining time, redrawn in place. What happens in between
//     (retries, fallbacks) scrolls by above. The frame never exceeds the
//     terminal: names are shortened, and files that do not fit are summed up.
//   - [Plain], for a pipe, a log, or a terminal that cannot do better: a line
//     for each event, for each change of phase, and for every 10 % or 10 s.
//   - [JSON], for programs: one JSON object to a line, described below.
//
// Progress is how much of the data to be moved has come: neither the bytes off the
// wire, which are compressed, nor the place in the disks, which may hold little
// (F-NFC-10). The rate is bytes off the wire; where none has come for a while, the
// time since then stands in its place. Once all has come, while images are converted or
// landed, it is for how long the phase has gone on. What is left and when it ends comes from
// [progress.Meter].
//
// Plain and JSON never write an escape sequence; Bars does only to a terminal.
// Names and messages, which come from outside, pass [SafeText].
//
// # JSON lines
//
// Every line has "type" and "time" (RFC 3339). Sizes are bytes, rates bytes per
// second. Members may be added.
//
//	{"type":"phase","time":T,"phase":"exporting"}                          PhaseLine
//	{"type":"event","time":T,"level":"info|warning","file":F,"text":S}     EventLine
//	{"type":"progress","time":T,"phase":P,"percent":42.1,"position":N,"total":N,"received":N,
//	 "rate":N,"remaining_seconds":N,"files":[{"name":F,"state":S,"total":N,"position":N,
//	 "received":N,"retries":N,"rate":N,"remaining_seconds":N}]}            ProgressLine
//	{"type":"result","time":T,"result":{…}}                                ResultLine
//	{"type":"error","time":T,"error":S,"hint":S}                           ErrorLine
//
// "position" and "total" of the run are bytes of data; of a file they are the place in
// it and its full size, and its "data" and "expected" are bytes of data, where that is
// counted. "remaining_seconds" is left out when it cannot be told, "stalled_seconds" when
// nothing is, a "total" that is not known is negative. The last line is a result or an error.
package display
