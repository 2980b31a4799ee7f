package progress

// How much data a disk holds is not known before it has come: vSphere tells what
// its VM takes on the datastores, and the stream tells how much data lay before the
// place to which it has come. This file makes one estimate of both.

// forecast is what was said beforehand of a file's data, in bytes; 0 and 0 when nothing
// is known.
type forecast struct {
	least, most int64
	exact       bool
}

// Expect says that the file's data is counted ([File.SetMoved]) and, with most greater
// than 0, how much there is of it in bytes, at least and at most. What is said of
// several files counts as known of all of them together: what one has less than
// expected, others have more.
func (f *File) Expect(least, most int64) {
	f.forecast.Store(&forecast{least: min(max(least, 0), most), most: max(most, 0)})
}

// ExpectExactly is Expect of a number that is certain.
func (f *File) ExpectExactly(n int64) {
	f.forecast.Store(&forecast{least: n, most: n, exact: n > 0})
}

// SetMoved is [File.SetPosition] that also says how many bytes of data lay before
// that place.
func (f *File) SetMoved(pos, data int64) {
	f.position.Store(pos)
	f.data.Store(data)
}

// SetResumed is SetMoved to where an earlier run had come.
func (f *File) SetResumed(pos, data int64) {
	f.SetMoved(pos, data)
	f.resumed.Store(data)
}

// estimate fills in what each file is expected to bring. said is what was said of
// each beforehand, nil where data is not counted.
func estimate(files []FileSnapshot, said []*forecast) {
	var least, most, room int64 // of the files of which something is known: data still to come, and disk that it can be in
	for i, f := range files {
		if p := said[i]; p != nil && p.most > 0 && !p.exact {
			came := f.came(p)
			least, most = least+p.least-came, most+p.most-came
			room += f.ahead()
		}
	}
	share := func(budget int64) float64 { return min(max(float64(budget), 0)/max(float64(room), 1), 1) }
	for i := range files {
		f := &files[i]
		p := said[i]
		if p == nil {
			continue
		}
		left := float64(f.ahead())
		if p.exact || left == 0 && f.Data == 0 {
			f.Expected = p.most
			continue
		}
		part := 1.0 // of what is ahead that is data
		if f.Position > 0 {
			part = min(float64(f.Data)/float64(f.Position), 1) // as dense as what came
		}
		if p.most > 0 && most > 0 {
			part = min(max(part, share(least)), share(most))
		}
		f.Expected = f.Data + int64(left*part)
	}
}

// ahead is how many bytes of the file, holes and all, lie before the place to which
// the stream has come.
func (f FileSnapshot) ahead() int64 { return max(f.Total-f.Position, 0) }

// came is the data that came, of a file of which p was said: what an earlier run has
// brought as a whole is taken for that.
func (f FileSnapshot) came(p *forecast) int64 {
	if f.ahead() == 0 && f.Data == 0 {
		return p.most
	}
	return f.Data
}
