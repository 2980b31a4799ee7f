package progress

import "slices"

// Activity is something that takes its time and that no counter shows: waiting
// for somebody else, or reading a file again. Its methods may be called from
// any goroutine.
type Activity struct {
	t    *Tracker
	text string // guarded by t.mu
}

// Begin says what the run does from now on until [Activity.End], in a few words
// such as "waiting for vCenter since 12:03:05: connection refused". Several may
// go on at a time; a snapshot has the one that began last.
func (t *Tracker) Begin(text string) *Activity {
	a := &Activity{t: t, text: text}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doing = append(t.doing, a)
	t.wake()
	return a
}

// Set changes the text, for an activity that tells how far it is.
func (a *Activity) Set(text string) {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.text = text
}

// End says that it is over; a second call does nothing.
func (a *Activity) End() {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	if i := slices.Index(a.t.doing, a); i >= 0 {
		a.t.doing = slices.Delete(a.t.doing, i, i+1)
		a.t.wake()
	}
}
