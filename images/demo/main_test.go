package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	t.Setenv("DEMO_WORD", "seagull")
	srv := httptest.NewServer(handler())
	defer srv.Close()
	for _, tc := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/", "", 200, "address 127.0.0.1\nclient 127.0.0.1:"},
		{"GET", "/healthz", "", 200, "ok\n"},
		{"GET", "/readyz", "", 200, "ok\n"},
		{"GET", "/env?name=DEMO_WORD", "", 200, "seagull\n"},
		{"GET", "/env", "", 200, "DEMO_WORD=seagull\n"},
		{"POST", "/echo", "ahoy", 200, "ahoy"},
		{"GET", "/nothing", "", 404, ""},
	} {
		req, err := http.NewRequest(tc.method, srv.URL+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.code || !strings.Contains(string(got), tc.want) {
			t.Errorf("%s %s: %d %q, want %d with %q", tc.method, tc.path, resp.StatusCode, got, tc.code, tc.want)
		}
	}
}

// An open request is answered although the end was asked for meanwhile.
func TestEndsGracefully(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-port", "0"}, outW)
		outW.Close()
	}()
	lines := bufio.NewScanner(outR)
	lines.Scan()
	_, addr, found := strings.Cut(lines.Text(), "listening on ")
	if !found {
		t.Fatalf("first line %q", lines.Text())
	}
	port := addr[strings.LastIndex(addr, ":"):]
	conn, err := net.Dial("tcp", "127.0.0.1"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /echo HTTP/1.1\r\nHost: demo\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
	replies := bufio.NewReader(conn)
	if line, err := replies.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q, %v", line, err) // the server says this once it wants the body: the request is open
	}
	replies.ReadString('\n')
	cancel()
	if lines.Scan(); !strings.HasPrefix(lines.Text(), "ending") {
		t.Fatalf("second line %q", lines.Text())
	}
	fmt.Fprint(conn, "half whole")
	resp, err := http.ReadResponse(replies, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(resp.Body); string(got) != "half whole" {
		t.Errorf("the open request got %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
