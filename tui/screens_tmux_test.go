package tui_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// scattered makes a sparse raw file with data in pieces all over it.
func scattered(t *testing.T, size, data int64) string {
	t.Helper()
	const piece = 512 << 10
	name := filepath.Join(t.TempDir(), "scattered.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, piece)
	random := rand.NewChaCha8([32]byte{byte(size), byte(data), 1})
	for i := range data / piece {
		_, _ = random.Read(b)
		if _, err := f.WriteAt(b, size/(data/piece)*i&^0xffff); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return name
}

var (
	totalPercent = regexp.MustCompile(`total .* (\d+\.\d)%`)
	totalLeft    = regexp.MustCompile(`total .* ((?:\d+m)?\d+s) left`)
)

func TestTmuxSixtyVMsTwoAtATime(t *testing.T) {
	t.Parallel()
	raw := disk(t, 4<<20, 1<<19)
	var vms []vspheretest.VM
	for i := range 60 {
		vms = append(vms, vspheretest.VM{Name: fmt.Sprintf("bulk-%02d", i), Disks: []vspheretest.Disk{{Path: raw}}})
	}
	_, env := lab(t, vspheretest.Config{VMs: vms})
	p := open(t, 120, 30, env...)
	p.until("60 of 60")
	p.keys("C-a", "Enter")
	p.until("Output directory")
	p.keys("Enter")
	p.until("enter start")
	p.keys("Enter")
	p.until("total ", "bulk-00")
	unseen, last, widths := 0, 0.0, map[string]int{"120": 0, "80": 15, "50": 30}
	running := regexp.MustCompile(`(?m)^ .{1,3}bulk-\d\d +(connecting|discovering|preparing|exporting|verifying|describing|done|pending)`)
	done := regexp.MustCompile(`(\d+) done`)
	p.when("the end", func(s string) bool {
		if strings.Contains(s, "finished: 60 of 60") {
			return true
		}
		if m := totalPercent.FindStringSubmatch(s); m != nil {
			now, _ := strconv.ParseFloat(m[1], 64)
			if now < last {
				t.Errorf("the total fell from %v to %v %%:\n%s", last, now, s)
			}
			last = now
		}
		if strings.Contains(s, " running") && !running.MatchString(s) {
			if unseen++; unseen == 5 { // looks in a row: one may fall into a change of size
				t.Errorf("no VM that runs is in sight:\n%s", s)
			}
		} else {
			unseen = 0
		}
		if m := done.FindStringSubmatch(s); m != nil {
			n, _ := strconv.Atoi(m[1])
			for width, from := range widths {
				if n >= from {
					p.tmux("resize-window", "-x", width)
					delete(widths, width)
				}
			}
		}
		return false
	})
	if last < 50 {
		t.Errorf("the total was seen up to %v %% only", last)
	}
	p.tmux("resize-window", "-x", "80", "-y", "24")
	p.keys("End")
	p.until("bulk-59")
	p.keys("Home")
	p.until("❯ bulk-00")
	p.keys("q")
	p.until("ENDED WELL")
}

func TestTmuxTheTimeLeftIsThatOfTheDataWhereverItLies(t *testing.T) {
	t.Parallel()
	const capacity, data, rate = 128 << 20, 12 << 20, 3 << 20
	front, all := disk(t, capacity, data), scattered(t, capacity, data)
	_, env := lab(t, vspheretest.Config{Rate: rate, VMs: []vspheretest.VM{
		{Name: "front-1", Disks: []vspheretest.Disk{{Path: front}}}, {Name: "front-2", Disks: []vspheretest.Disk{{Path: front}}},
		{Name: "sparse-1", Disks: []vspheretest.Disk{{Path: all}}}, {Name: "sparse-2", Disks: []vspheretest.Disk{{Path: all}}},
	}})
	p := open(t, 100, 30, env...)
	p.until("4 of 4")
	p.keys("C-a", "Enter")
	p.until("Output directory")
	p.keys("Enter")
	p.until("enter start")
	p.keys("Enter")
	seen, wrong := 0, []string{}
	began := time.Now()
	p.when("the end", func(s string) bool {
		percent, left := totalPercent.FindStringSubmatch(s), totalLeft.FindStringSubmatch(s)
		if percent == nil || left == nil {
			return strings.Contains(s, "finished: 4 of 4")
		}
		done, _ := strconv.ParseFloat(percent[1], 64)
		if done /= 100; done > 1./3 && done < 2./3 {
			told, err := time.ParseDuration(left[1])
			// Two at a time, each as fast as the lab lets it, or as the machine does where
			// that is slower. By capacity, of which a tenth holds data, it would be ten times as long.
			least := (1 - done) * 4 * data / (2 * rate)
			most := max(least, time.Since(began).Seconds()*(1-done)/done)
			if err != nil || told.Seconds() > most*3 || told.Seconds() < least/3 {
				wrong = append(wrong, fmt.Sprintf("%v are told to be left, and it is %.1f to %.1f s:\n%s", told, least, most, s))
			}
			seen++
		}
		return strings.Contains(s, "finished: 4 of 4")
	})
	if seen == 0 {
		t.Error("no time was told")
	}
	if len(wrong) > 0 {
		t.Errorf("%d of %d looks: %s", len(wrong), seen, wrong[0])
	}
}

func TestTmuxProblemsAreThereBeforeTheCursor(t *testing.T) {
	t.Parallel()
	raw := []vspheretest.Disk{{Path: disk(t, 4<<20, 1<<16)}}
	vms := []vspheretest.VM{{Name: "aa", Disks: raw}, {Name: "ab", VTPM: true, Disks: raw}, {Name: "zz-mapped", Disks: []vspheretest.Disk{{Path: raw[0].Path, RDM: vspheretest.RDMPhysical}}}}
	srv, env := lab(t, vspheretest.Config{BulkVMs: 499, VMs: vms})
	p := open(t, 120, 16, env...)
	p.until("502 of 502", "vtpm") // of one that the cursor has not been on
	p.keys("C-d")
	if calls := len(srv.Requests(vspheretest.SOAP)); calls > 60 {
		t.Errorf("%d calls for 502 VMs", calls)
	}
	order := regexp.MustCompile(`· by ([a-z ]*[a-z])`)
	for now := ""; now != "problem"; {
		p.keys("C-s")
		before := now
		p.when("another order", func(s string) bool {
			if m := order.FindStringSubmatch(s); m != nil {
				now = m[1]
			}
			return now != before && now != "name" || before == ""
		})
	}
	p.until("zz-mapped", "rdm")
	p.keys("Tab", "Escape")
	p.until("forget the 1 selected?")
	p.keys("n")
	p.until("● 1 selected", "enter next")
	p.keys("Escape")
	p.until("forget the 1 selected?")
	p.keys("y")
	p.until("ENDED WELL")
}

func TestTmuxDetachHandsTheRestToADaemonThatResumes(t *testing.T) {
	t.Parallel()
	small, large := disk(t, 8<<20, 1<<20), disk(t, 32<<20, 12<<20)
	// Two disks do not go on until nobody waits for them here any more.
	stalls := []string{"stall:at=2MiB,vm=late", "stall:at=2MiB,vm=pair,disk=1"}
	srv, env := lab(t, vspheretest.Config{Rate: 4 << 20, Faults: stalls, VMs: []vspheretest.VM{
		{Name: "early", Disks: []vspheretest.Disk{{Path: small}}},
		{Name: "late", Disks: []vspheretest.Disk{{Path: large}}},
		{Name: "pair", Disks: []vspheretest.Disk{{Path: small}, {Path: large}}},
	}})
	url := daemon(t, env)
	p := open(t, 100, 30, append(env, "TEST_DETACH="+url)...)
	p.until("3 of 3")
	p.keys("C-a", "Enter")
	p.until("Output directory")
	p.keys("Enter")
	p.until("enter start")
	p.keys("Enter")
	p.when("one VM done and one disk of another", func(s string) bool {
		return strings.Contains(s, "1 done") && strings.Contains(s, "pair-disk-0.qcow2") && strings.Contains(s, "complete")
	})
	p.keys("d")
	p.until("hand the other 2 to " + url)
	p.keys("y")
	p.until("q leave, jobs go on", url)
	p.keys("q")
	p.until("early: ", "2 job(s) go on at the daemon", "ENDED WELL")
	p.run(100, 30, asProgram+"=watch", "H2KVM_DAEMON="+url)
	p.until("finished: 2 of 2 exported and verified")
	p.keys("q")
	p.until("ENDED WELL")
	if served, size := srv.BytesServed("pair", 0), srv.Stream("pair", 0).Size; served != size {
		t.Errorf("of the disk that was here %d bytes were sent, and it has %d", served, size)
	}
	for name, raw := range map[string]string{"late/late-disk-0": large, "pair/pair-disk-0": small, "pair/pair-disk-1": large} {
		image := filepath.Join(p.dir, "vms", name+".qcow2")
		if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, image).CombinedOutput(); err != nil {
			t.Errorf("%s is not the disk: %v: %s", name, err, out)
		}
	}
	if left := srv.Leases(); len(left) > 0 {
		t.Errorf("leases are left: %v", left)
	}
}
