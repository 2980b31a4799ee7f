package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// An object is read in order, by several ranged requests where the server honours
// ranges, by one stream where it does not.
func ExampleOpen() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "disk-0.vmdk", time.Time{}, strings.NewReader("the bytes of a disk"))
	}))
	defer server.Close()
	object, err := url.Parse(server.URL + "/nfc/ticket/disk-0.vmdk")
	if err != nil {
		log.Fatal(err)
	}
	source := &transfer.HTTPSource{Client: server.Client(), URL: object}

	limiter := transfer.NewLimiter(200<<20, nil) // bytes a second, for all readers that share it
	r, info, err := transfer.Open(context.Background(), source, transfer.Options{Workers: 4, Limiter: limiter})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes, ranges %v: %s\n", info.Size, info.Ranges, data)
	// Output: 19 bytes, ranges true: the bytes of a disk
}

// A stream without ranges that breaks has to begin again. All attempts share one
// budget, which refills while bytes advance.
func ExampleNewBudget() {
	attempts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if attempts++; attempts == 1 { // half of it, then nothing more
			w.Header().Set("Content-Length", "19")
			_, _ = io.WriteString(w, "the bytes")
			return
		}
		_, _ = io.WriteString(w, "the bytes of a disk")
	}))
	defer server.Close()
	object, err := url.Parse(server.URL + "/nfc/ticket/disk-0.vmdk")
	if err != nil {
		log.Fatal(err)
	}
	source := &transfer.HTTPSource{Client: server.Client(), URL: object}
	budget := transfer.NewBudget(transfer.BudgetOptions{Retries: 3, Min: time.Microsecond, Max: time.Millisecond})
	for {
		data, err := readOnce(source, budget)
		if errors.Is(err, transfer.ErrRestart) { // the pause is over
			fmt.Println("begin again")
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", data)
		return
	}
	// Output:
	// begin again
	// the bytes of a disk
}

func readOnce(source transfer.Source, budget *transfer.Budget) ([]byte, error) {
	r, _, err := transfer.Open(context.Background(), source, transfer.Options{Budget: budget})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
