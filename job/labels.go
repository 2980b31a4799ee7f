package job

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Bounds of the labels of a daemon, and of what a job asks of them.
const (
	MaxLabels = 16
	maxLabel  = 63 // bytes of a key, and of a value
)

// Labels say where a daemon is and what it has, as site: dc1. A job's
// [Definition].Constraint is a part of them.
type Labels map[string]string

// Suits reports whether a daemon with these labels has all that a job asks for.
func (l Labels) Suits(constraint Labels) bool {
	for key, value := range constraint {
		if has, ok := l[key]; !ok || has != value {
			return false
		}
	}
	return true
}

// String writes labels for people, in the order of their keys, as "rack=7, site=dc1".
func (l Labels) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, key+"="+l[key])
	}
	return strings.Join(parts, ", ")
}

// ParseLabels reads labels as commands take them: KEY=VALUE, with commas in between.
// The error quotes nothing.
func ParseLabels(text string) (Labels, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	l := make(Labels)
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if _, twice := l[key]; !ok || twice {
			return nil, errors.New("must be KEY=VALUE, such as site=dc1, with commas in between and each key once")
		}
		l[key] = value
	}
	return l, l.Check()
}

// Check returns why these cannot be labels, or nil. It quotes nothing.
func (l Labels) Check() error {
	if len(l) > MaxLabels {
		return fmt.Errorf("must be at most %d", MaxLabels)
	}
	for key, value := range l {
		for _, s := range []string{key, value} {
			if s == "" || len(s) > maxLabel || strings.ContainsFunc(s, func(r rune) bool { return !labelRune(r) }) {
				return fmt.Errorf("must have keys and values of 1 to %d letters, digits, '-', '_', '.' and '/'", maxLabel)
			}
		}
	}
	return nil
}

func labelRune(r rune) bool {
	return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("-_./", r)
}
