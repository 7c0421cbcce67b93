// Command demo is the small HTTP server in the demo image: it says which pod
// answered. It never writes and needs no file; PORT (or -port) says where it
// listens, SIGTERM makes it finish its open connections and end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then finishes what is open for at most 20 s.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	port := flags.String("port", envOr("PORT", "8080"), "port to listen on (also env PORT)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("", *port))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "listening on %s\n", lis.Addr())
	srv := &http.Server{Handler: handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "ending: finishing open connections")
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err = srv.Shutdown(last)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		return serveErr
	}
	return err
}

// handler has the pages: / says who answered, /healthz and /readyz say ok,
// /env lists the environment (or ?name=X alone), /echo sends the body back.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", who)
	mux.HandleFunc("GET /healthz", ok)
	mux.HandleFunc("GET /readyz", ok)
	mux.HandleFunc("GET /env", environ)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body) // a client that went away is its own news
	})
	return mux
}

func ok(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func who(w http.ResponseWriter, r *http.Request) {
	host, _ := os.Hostname() // empty says it all
	local := ""
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		local = addr.IP.String()
	}
	fmt.Fprintf(w, "pod %s\naddress %s\nclient %s\n", host, local, r.RemoteAddr)
}

func environ(w http.ResponseWriter, r *http.Request) {
	if name := r.URL.Query().Get("name"); name != "" {
		fmt.Fprintln(w, os.Getenv(name))
		return
	}
	env := os.Environ()
	slices.Sort(env)
	fmt.Fprintln(w, strings.Join(env, "\n"))
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
