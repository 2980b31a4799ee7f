package job

import (
	"slices"
	"strings"
)

// Finish is something that is done to the source VM once the whole job has succeeded.
type Finish string

// What a job can finish with. [Options.Finish] names one, or several with commas between
// them.
const (
	FinishNothing    Finish = "nothing"    // the default
	FinishTag        Finish = "tag"        // a custom attribute says what became of it
	FinishRename     Finish = "rename"     // NAME-migrated-DATE
	FinishDisconnect Finish = "disconnect" // its network cards do not connect at power-on
)

// Finishes are those that o asks for, each once, in the order of the constants.
// [FinishNothing] is not among them.
func (o Options) Finishes() []Finish {
	var out []Finish
	for _, f := range []Finish{FinishTag, FinishRename, FinishDisconnect} {
		if slices.Contains(splitFinish(o.Finish), f) {
			out = append(out, f)
		}
	}
	return out
}

func splitFinish(s string) []Finish {
	var out []Finish
	for word := range strings.SplitSeq(s, ",") {
		out = append(out, Finish(strings.TrimSpace(word)))
	}
	return out
}

// finish judges what is to be done with the source.
func (v *validator) finish(o Options) {
	if o.Finish == "" {
		return
	}
	words := splitFinish(o.Finish)
	for _, w := range words {
		switch w {
		case FinishTag, FinishRename, FinishDisconnect:
		case FinishNothing:
			if len(words) > 1 {
				v.add("options.finish", "%s goes alone", FinishNothing)
			}
		default:
			v.add("options.finish", "must be %s, or some of %s, %s and %s with commas between them", FinishNothing, FinishTag, FinishRename, FinishDisconnect)
			return
		}
	}
}
