// Package registry serves images to a test from a registry on loopback, with or
// without a password, and can be told to refuse. It speaks plain HTTP, which
// containerd accepts for a loopback address; it ends with the test and keeps
// nothing on disk.
package registry

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry is one running registry.
type Registry struct {
	Host           string // 127.0.0.1:port
	User, Password string // "" lets everybody in

	manifests atomic.Int64
	down      atomic.Bool
}

// Start serves an empty registry until the test ends. With a user, every
// request needs that name and password (basic authentication).
func Start(t testing.TB, user, password string) *Registry {
	t.Helper()
	r := &Registry{User: user, Password: password}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.refuses(w, req) {
			return
		}
		if req.Method == http.MethodHead || req.Method == http.MethodGet {
			if strings.Contains(req.URL.Path, "/manifests/") {
				r.manifests.Add(1)
			}
		}
		store.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	r.Host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// refuses answers a request that may not pass.
func (r *Registry) refuses(w http.ResponseWriter, req *http.Request) bool {
	if r.down.Load() {
		http.Error(w, "out of service", http.StatusServiceUnavailable)
		return true
	}
	if r.User == "" {
		return false
	}
	if user, password, _ := req.BasicAuth(); user == r.User && password == r.Password {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	return true
}

// Down lets every request fail with 503, or work again.
func (r *Registry) Down(down bool) { r.down.Store(down) }

// Asked is how often a manifest was asked for: a pull that was answered from
// the node's own store does not count.
func (r *Registry) Asked() int { return int(r.manifests.Load()) }

// Push puts an image file (docker save) into the registry under repository:tag
// and returns the full reference for a pull.
func (r *Registry) Push(t testing.TB, file, repository string) string {
	t.Helper()
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(r.Host+"/"+repository, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	var login authn.Authenticator = authn.Anonymous
	if r.User != "" {
		login = &authn.Basic{Username: r.User, Password: r.Password}
	}
	asked := r.manifests.Load()
	if err := remote.Write(ref, img, remote.WithAuth(login), remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	r.manifests.Store(asked) // what the push asked does not count
	return ref.Name()
}
