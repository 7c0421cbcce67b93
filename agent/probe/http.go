package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// userAgent is how the kubelet's probes are told apart from clients, said in
// our own name.
const userAgent = "pinnace-probe"

// maxRedirects is how far a probe follows within one host.
const maxRedirects = 10

// tryHTTP succeeds on any status from 200 to 399. A redirect to another host
// is not followed: it counts as success and the message says so.
func tryHTTP(ctx context.Context, a *corev1.HTTPGetAction, t Target, timeout time.Duration) (Result, string) {
	req, err := request(ctx, a, t)
	if err != nil {
		return Unknown, err.Error()
	}
	status, body, err := get(req, timeout)
	switch {
	case err != nil:
		return Failure, err.Error()
	case status >= 300 && status < 400:
		return Success, "Probe terminated redirects, Response body: " + body
	case status >= 200 && status < 300:
		return Success, body
	}
	// The body stays out: events are read by more people than the pod's.
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", status)
}

// get does one request on a connection of its own and closes it.
func get(req *http.Request, timeout time.Duration) (status int, body string, err error) {
	transport := &http.Transport{
		// The documented contract of an HTTPS probe: certificates are not verified.
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:  true,
		DisableKeepAlives:  true,
		DisableCompression: true, // no Accept-Encoding that the pod's author did not ask for
		DialContext:        dialer().DialContext,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: stayOnHost}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	if err != nil {
		return 0, "", fmt.Errorf("read body of %s: %w", req.URL, err)
	}
	return res.StatusCode, string(text), nil
}

// stayOnHost follows redirects while they name the first request's host.
func stayOnHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// request builds what the action describes. Headers given there win over
// ours; an empty Accept removes it.
func request(ctx context.Context, a *corev1.HTTPGetAction, t Target) (*http.Request, error) {
	port, err := t.port(a.Port)
	if err != nil {
		return nil, err
	}
	host, err := t.host(a.Host)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(a.Path)
	if err != nil {
		u = &url.URL{Path: a.Path} // whatever the author meant, sent as it stands
	}
	u.Scheme = "http"
	if a.Scheme != "" {
		u.Scheme = strings.ToLower(string(a.Scheme))
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range a.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	if _, given := req.Header["User-Agent"]; !given {
		req.Header.Set("User-Agent", userAgent)
	}
	if _, given := req.Header["Accept"]; !given {
		req.Header.Set("Accept", "*/*")
	} else if req.Header.Get("Accept") == "" {
		req.Header.Del("Accept")
	}
	req.Host = req.Header.Get("Host")
	return req, nil
}

// dialer makes connections that do not linger in TIME_WAIT for a minute:
// many pods, each probed every few seconds, would exhaust the ports. One
// second, not zero, since zero sends a reset instead of a clean end.
func dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 1})
		})
		return errors.Join(err, failed)
	}}
}
