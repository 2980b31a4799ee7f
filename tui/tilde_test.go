package tui

import "testing"

func TestAHomeInTheFormIsThatOfThePerson(t *testing.T) {
	t.Setenv("HOME", "/srv/ann")
	tr := newTour(t)
	tr.press("web01", "enter", "down", "ctrl+u", "~", "/", "v", "m", "s", "enter")
	tr.want("confirm", "to /srv/ann/vms", "-output /srv/ann/vms")
	tr.press("esc", "ctrl+u", "~", "n", "o", "b", "o", "d", "y", "-", "o", "f", "-", "i", "t", "enter")
	tr.want("options", `no user "nobody-of-it" is known`)
}
