package image

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
	"pinnace/testenv/runtime"
)

// serve is a registry with one image, team/app:1, for those who know the
// password. It returns its host.
func serve(t *testing.T) (host string, stop func()) {
	t.Helper()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err1 := img.RawManifest()
	config, err2 := img.RawConfigFile()
	name, err3 := img.ConfigName()
	digest, err4 := img.Digest()
	layers, err5 := img.Layers()
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	send := func(typ string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", typ)
			w.Header().Set("Docker-Content-Digest", digest.String())
			w.Write(body)
		}
	}
	blob := func(w http.ResponseWriter, r *http.Request) {
		rc, err := layers[0].Compressed()
		if err != nil {
			t.Error(err)
			return
		}
		defer rc.Close()
		io.Copy(w, rc)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/team/app/manifests/1", send(string(mediaType), manifest))
	mux.HandleFunc("/v2/team/app/manifests/"+digest.String(), send(string(mediaType), manifest))
	mux.HandleFunc("/v2/team/app/blobs/"+name.String(), send("application/octet-stream", config))
	mux.HandleFunc("/v2/team/app/blobs/"+layer.String(), blob)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), srv.Close
}

// TestRealPull pulls with containerd from a real registry on loopback.
func TestRealPull(t *testing.T) {
	rt := runtime.Start(t)
	client, err := cri.Dial(rt.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	host, stop := serve(t)
	file := filepath.Join(t.TempDir(), "registry.json")
	s := New(Config{Runtime: client, RegistryFile: file, Logger: slog.New(slog.DiscardHandler)})
	password := func(p string) {
		t.Helper()
		text := `{"auths":{"` + host + `":{"username":"ann","password":"` + p + `"}}}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Duration(len(p)) * time.Second)
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(ref string, policy corev1.PullPolicy, reason string, words ...string) {
		t.Helper()
		_, err := s.Ensure(t.Context(), ref, policy)
		e, ok := err.(*Error)
		if !ok || e.Reason != reason {
			t.Fatalf("error %v, want reason %s", err, reason)
		}
		t.Log(e.Message)
		for _, w := range words {
			if !strings.Contains(e.Message, w) {
				t.Errorf("message %q does not say %q", e.Message, w)
			}
		}
		for _, w := range []string{"rpc error", "failed to pull", "failed to resolve", "right"} {
			if strings.Contains(e.Message, w) {
				t.Errorf("message %q says %q", e.Message, w)
			}
		}
	}
	ref := host + "/team/app:1"
	refused(ref, corev1.PullNever, ErrImageNeverPull, ref)
	refused(ref, corev1.PullIfNotPresent, ErrImagePull, ref)
	password("wrong")
	refused(ref, corev1.PullIfNotPresent, ErrImagePull, ref, "401 Unauthorized")
	password("right")
	refused(host+"/team/none:1", corev1.PullIfNotPresent, ErrImagePull, "team/none:1", "not found")
	img, err := s.Ensure(t.Context(), ref, corev1.PullIfNotPresent)
	if err != nil {
		t.Fatal(err)
	}
	if len(img.RepoTags) != 1 || img.RepoTags[0] != ref || img.Size == 0 {
		t.Errorf("image %+v", img)
	}
	stop()
	if again, err := s.Ensure(t.Context(), ref, corev1.PullIfNotPresent); err != nil || again.ID != img.ID {
		t.Errorf("present and the registry gone: %v, %v", again, err)
	}
	refused(ref, corev1.PullAlways, ErrImagePull, "connection refused")
}
