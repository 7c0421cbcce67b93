package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// credentialFile reads a docker config file, again whenever it changed.
type credentialFile struct {
	path    string
	mu      sync.Mutex
	changed time.Time
	size    int64
	keys    []credential
	problem string
}

// lookup returns the credentials for ref, nil when there are none, and what
// is wrong with the file, "" if nothing.
func (f *credentialFile) lookup(ref string) (*runtimeapi.AuthConfig, string) {
	if f.path == "" {
		return nil, ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.changed, f.size, f.keys, f.problem = time.Time{}, 0, nil, ""
	case err != nil:
		return nil, "no credentials: " + err.Error()
	case !st.ModTime().Equal(f.changed) || st.Size() != f.size:
		raw, err := os.ReadFile(f.path)
		if err != nil {
			return nil, "no credentials: " + err.Error()
		}
		f.changed, f.size, f.problem = st.ModTime(), st.Size(), ""
		if f.keys, err = parseCredentials(raw); err != nil {
			f.problem = fmt.Sprintf("credentials in %s: %v", f.path, err)
		}
	}
	return match(f.keys, ref), f.problem
}

// credential is one entry: a registry's host, which may hold wildcards and a
// port, and the path below it, "" for all.
type credential struct {
	host, path string
	auth       *runtimeapi.AuthConfig
}

// parseCredentials reads docker's config format. Entries that cannot be used
// are left out and named in the error, never with their secrets.
func parseCredentials(raw []byte) ([]credential, error) {
	var file struct {
		Auths       map[string]entry  `json:"auths"`
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("not in docker's config format: %w", plain(err))
	}
	var keys []credential
	var problems []error
	if file.CredsStore != "" || len(file.CredHelpers) > 0 {
		problems = append(problems, errors.New("credential helpers are not supported, write the entries into auths"))
	}
	for key, e := range file.Auths {
		host, sub, err := splitKey(key)
		if err == nil {
			var auth *runtimeapi.AuthConfig
			if auth, err = e.auth(); err == nil {
				keys = append(keys, credential{host, sub, auth})
				continue
			}
		}
		problems = append(problems, fmt.Errorf("entry %q: %w", key, err))
	}
	// The most specific first: longer path, then a host without wildcard.
	slices.SortFunc(keys, func(a, b credential) int {
		if n := len(b.path) - len(a.path); n != 0 {
			return n
		}
		if n := strings.Count(a.host, "*") - strings.Count(b.host, "*"); n != 0 {
			return n
		}
		return strings.Compare(a.host, b.host)
	})
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return keys, errors.Join(problems...)
}

// plain keeps a JSON error's place and drops the offending text, which may
// be a secret.
func plain(err error) error {
	if bad := (*json.SyntaxError)(nil); errors.As(err, &bad) {
		return fmt.Errorf("JSON syntax error at byte %d", bad.Offset)
	}
	if bad := (*json.UnmarshalTypeError)(nil); errors.As(err, &bad) {
		return fmt.Errorf("%s is of another type", bad.Field)
	}
	return errors.New("bad JSON")
}

// entry is one registry's credentials.
type entry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func (e entry) auth() (*runtimeapi.AuthConfig, error) {
	if e.Auth != "" {
		// Some tools write the padding, some do not.
		raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(e.Auth, "=\r\n "))
		if err != nil {
			return nil, errors.New("auth is not base64")
		}
		user, password, ok := strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
		if !ok {
			return nil, errors.New("auth is not user:password in base64")
		}
		e.Username, e.Password = user, password
	}
	if e.IdentityToken != "" {
		// Runtimes prefer a user name when they get both, but beside a
		// token docker writes only a placeholder.
		e.Username, e.Password = "", ""
	}
	if e.Username == "" && e.Password == "" && e.IdentityToken == "" && e.RegistryToken == "" {
		return nil, errors.New("it holds no credentials")
	}
	return &runtimeapi.AuthConfig{
		Username: e.Username, Password: e.Password,
		IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken,
	}, nil
}

// dockerHub is the default registry; it goes by several names in auths.
const dockerHub = "docker.io"

// splitKey takes a key of auths apart: a URL or a host, either with a path.
func splitKey(key string) (host, sub string, err error) {
	rest := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, sub, _ = strings.Cut(rest, "/")
	sub = strings.TrimSuffix(sub, "/")
	for _, version := range []string{"v1", "v2"} { // the API's version says nothing about images
		if sub == version {
			sub = ""
		}
		sub = strings.TrimPrefix(sub, version+"/")
	}
	if host == "" {
		return "", "", errors.New("it names no host")
	}
	if _, err := path.Match(host, ""); err != nil {
		return "", "", errors.New("bad wildcard")
	}
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = dockerHub
	}
	return host, sub, nil
}

// match finds the most specific credentials for ref.
func match(keys []credential, ref string) *runtimeapi.AuthConfig {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	host, repo := reference.Domain(named), reference.Path(named)
	for _, k := range keys {
		if matchHost(k.host, host) && (k.path == "" || repo == k.path || strings.HasPrefix(repo, k.path+"/")) {
			return k.auth
		}
	}
	return nil
}

// matchHost compares label by label: a wildcard never spans a dot, and the
// port must be the same.
func matchHost(glob, host string) bool {
	globName, globPort, _ := strings.Cut(glob, ":")
	name, port, _ := strings.Cut(host, ":")
	if strings.HasPrefix(glob, "[") || strings.HasPrefix(host, "[") {
		return glob == host // an IPv6 address has no labels
	}
	want, have := strings.Split(globName, "."), strings.Split(name, ".")
	if globPort != port || len(want) != len(have) {
		return false
	}
	for i := range want {
		if ok, _ := path.Match(want[i], have[i]); !ok {
			return false
		}
	}
	return true
}
