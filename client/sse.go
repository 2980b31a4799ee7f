package client

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// maxEventLine bounds one line of an event stream, in bytes: a result with
// thousands of files fits.
const maxEventLine = 4 << 20

// readEvents parses a text/event-stream. It ends at a clean end of the stream;
// an error is the last thing it yields. Events of unknown kinds are left out,
// so that a newer daemon can be watched.
func readEvents(r io.Reader) iter.Seq2[models.Event, error] {
	return func(yield func(models.Event, error) bool) {
		sc := bufio.NewScanner(r)
		sc.Buffer(make([]byte, 0, 4096), maxEventLine)
		var id int64
		var kind string
		var data []string
		for sc.Scan() {
			line := sc.Text()
			if line != "" {
				field, value, _ := strings.Cut(line, ":") // a comment's field is ""
				value = strings.TrimPrefix(value, " ")
				switch field {
				case "id":
					id, _ = strconv.ParseInt(value, 10, 64)
				case "event":
					kind = value
				case "data":
					data = append(data, value)
				}
				continue
			}
			if len(data) > 0 {
				ev, known, err := parseEvent(id, kind, strings.Join(data, "\n"))
				if err != nil {
					yield(models.Event{}, err)
					return
				}
				if known && !yield(ev, nil) {
					return
				}
			}
			id, kind, data = 0, "", nil
		}
		if err := sc.Err(); err != nil {
			yield(models.Event{}, fmt.Errorf("read events: %w", err))
		}
	}
}

func parseEvent(id int64, kind, data string) (ev models.Event, known bool, err error) {
	switch t := models.EventType(kind); t {
	case models.EventState, models.EventLog, models.EventProgress:
		if err := json.Unmarshal([]byte(data), &ev); err != nil {
			return ev, false, fmt.Errorf("%s event %d: %w", kind, id, err)
		}
		ev.ID, ev.Type = id, t
		return ev, true, nil
	}
	return ev, false, nil
}
