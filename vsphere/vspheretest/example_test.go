package vspheretest_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// exampleDisk makes a raw disk of 1 MiB in a file.
func exampleDisk() (path string) {
	content := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	f, err := os.CreateTemp("", "example-*.raw")
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
	return f.Name()
}

// A client of vSphere, here govmomi, exports a VM whose host cuts the first
// connection. What arrives in the second is what the host's manifest says.
func ExampleNew() {
	disk := exampleDisk()
	defer os.Remove(disk)
	srv, err := vspheretest.New(vspheretest.Config{
		VMs:    []vspheretest.VM{{Name: "guest1", Folder: "Prod", Disks: []vspheretest.Disk{{Path: disk}}}},
		Faults: []string{"cut:at=200KB,times=1"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	ctx := context.Background()
	vcenter, err := govmomi.NewClient(ctx, srv.URL(), true)
	if err != nil {
		log.Fatal(err)
	}
	vm, err := find.NewFinder(vcenter.Client).VirtualMachine(ctx, "/DC0/vm/Prod/guest1")
	if err != nil {
		log.Fatal(err)
	}
	lease, err := vm.Export(ctx)
	if err != nil {
		log.Fatal(err)
	}
	info, err := lease.Wait(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	host := &http.Client{Transport: vcenter.DefaultTransport()} // takes the lab's certificates
	var sum string
	for range 2 {
		n, hash, err := read(host, info.Items[0].URL.String())
		fmt.Println("arrived in full:", err == nil && n > 1<<20)
		sum = hash
	}
	manifest, err := lease.GetManifest(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("as the manifest says:", sum == manifest[0].Sha1)
	if err := lease.Complete(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("faults:", srv.Struck())
	// Output:
	// arrived in full: false
	// arrived in full: true
	// as the manifest says: true
	// faults: map[cut:1]
}

// read reads a disk to its end and returns its size and its SHA-1, which manifests have
// unless another was asked for.
func read(c *http.Client, url string) (n int64, sum string, err error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	h := sha1.New()
	n, err = io.Copy(h, resp.Body)
	return n, hex.EncodeToString(h.Sum(nil)), err
}
