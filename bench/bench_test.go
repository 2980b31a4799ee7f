package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFigureIsTheMedianOfTheTurnsAndNotOfTheSides(t *testing.T) {
	t.Parallel()
	// A slow moment disturbed both sides of the second turn.
	ours := []sample{{Seconds: 1, CPU: 2}, {Seconds: 10, CPU: 2}, {Seconds: 1, CPU: 2}}
	theirs := []sample{{Seconds: 2, CPU: 1}, {Seconds: 20, CPU: 1}, {Seconds: 2, CPU: 1}}
	got := judge(row{wants: []want{{timeRatio, 0.6}, {speedup, 2.5}}}, ours, theirs)
	if len(got) != 3 {
		t.Fatalf("%d outcomes, want one for each goal and one for CPU time", len(got))
	}
	if got[0].Figure != 0.5 || !got[0].Met {
		t.Errorf("time ratio %+v, want 0.5, met", got[0])
	}
	if got[1].Figure != 2 || got[1].Met {
		t.Errorf("speedup %+v, want 2, not met", got[1])
	}
	if got[2].Figure != 2 || got[2].Met {
		t.Errorf("CPU ratio %+v, want 2, not met", got[2])
	}
}

func TestTheMedianOfAnEvenNumberLiesBetweenTheMiddleTwo(t *testing.T) {
	t.Parallel()
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median %g, want 2.5", m)
	}
}

func TestBytesWrittenAreThoseThatReachStorage(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/io"); err != nil {
		t.Fatal("this kernel counts no I/O: it lacks CONFIG_TASK_IO_ACCOUNTING")
	}
	path := filepath.Join(t.TempDir(), "file")
	s, out, err := measureProcess(t.Context(), []string{"WORD=done"}, "sh", "-c", `head -c 1048576 /dev/zero >"$0"; echo $WORD`, path)
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != "done\n" {
		t.Errorf("it printed %q", out)
	}
	if s.Seconds <= 0 || s.RSS <= 0 || s.Written < 0 {
		t.Errorf("sample %+v has no time or no memory", s)
	}
}

func TestAProgramThatFailsIsAnErrorWithWhatItSaid(t *testing.T) {
	t.Parallel()
	_, _, err := measureProcess(t.Context(), nil, "sh", "-c", "echo no such thing >&2; exit 3")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("error %v, want exit code 3 and the message", err)
	}
}

func TestADiskIsTheSameEachTimeAndHasItsHoles(t *testing.T) {
	t.Parallel()
	s := spec{Capacity: 64 << 20, Data: 16 << 20}
	var sums [2][32]byte
	for i := range sums {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := writeDisk(f, s); err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		data := int64(0)
		for p := make([]byte, extent); ; {
			n, err := io.ReadFull(io.TeeReader(f, h), p)
			if err == io.EOF || n == 0 {
				break
			}
			if !bytes.Equal(p, make([]byte, extent)) {
				data += int64(n)
			}
		}
		if data != s.Data {
			t.Errorf("%d bytes hold data, want %d", data, s.Data)
		}
		sums[i] = [32]byte(h.Sum(nil))
	}
	if sums[0] != sums[1] {
		t.Error("two disks of one spec differ")
	}
}

func TestAPreparedDiskDecodesToWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec{Capacity: 32 << 20, Data: 8 << 20}
	err := run(t.Context(), []string{"prepare", "-dir", dir, "-capacity", "33554432", "-content", "8388608"}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, s.name())
	image := filepath.Join(dir, "image")
	if err := run(t.Context(), []string{"decode", "-to", "raw", base + ".vmdk", image}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(base + ".raw")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the stream's raw image is not the disk")
	}
}

func TestAnExportCountsOnlyWhenEachDiskIsVerifiedAgainstTheManifest(t *testing.T) {
	t.Parallel()
	line := func(how string) []byte {
		return []byte(`{"type":"phase"}` + "\n" + `{"type":"result","result":{"success":true,"disks":[{"verified":"` + how + `"}]}}` + "\n")
	}
	if err := verified(1)("", line("manifest")); err != nil {
		t.Errorf("verified against the manifest: %v", err)
	}
	if err := verified(1)("", line("end-of-stream")); err == nil {
		t.Error("a disk without a manifest counts as verified")
	}
	if err := verified(2)("", line("manifest")); err == nil {
		t.Error("one disk counts as two")
	}
	if err := verified(1)("", []byte("no JSON")); err == nil {
		t.Error("no result counts as one")
	}
}

func TestWhatIsMissingIsSaidInTheTableAndNotMadeUp(t *testing.T) {
	t.Parallel()
	b := &bench{log: io.Discard}
	res, err := b.measure(context.Background(), row{goal: 4, work: "w", wants: []want{{timeRatio, 0.5}}, missing: "there is no such option"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printReport(&out, report{Rows: []result{res}}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "not measured: there is no such option") || strings.Contains(text, "met\n") {
		t.Errorf("the table says:\n%s", text)
	}
}

func TestARowWithoutAGoalShowsItsFigureAndNoVerdict(t *testing.T) {
	t.Parallel()
	r := row{work: "w", noCPU: true, wants: []want{{kind: timeRatio}}}
	res := result{Work: r.work, Wants: judge(r, []sample{{Seconds: 1}}, []sample{{Seconds: 4}})}
	var out bytes.Buffer
	if err := printReport(&out, report{Rows: []result{res}}); err != nil {
		t.Fatal(err)
	}
	line := strings.Join(strings.Fields(strings.Split(out.String(), "\n")[4]), " ")
	if want := "– w time – 0.25 0.25 to 0.25 0.25 –"; line != want {
		t.Errorf("the table says %q, want %q", line, want)
	}
}

func TestVariablesThatAreNotKnownStayForTheShell(t *testing.T) {
	t.Parallel()
	got := expand([]string{"sh", "-c", `echo "$0" $NAME`}, []string{"NAME=value"})
	if want := `echo "$0" value`; got[2] != want {
		t.Errorf("%q, want %q", got[2], want)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-size", "tiny"}, {"-size", "1MiB"}, {"-runs", "0"}, {"-rows", "one"}, {"surplus"}, {"decode", "x"}, {"prepare", "-no"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v, want wrong usage", args, err)
		}
	}
}
