package cri

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
	"k8s.io/utils/ptr"
)

// containerSecurity merges the pod's and the container's security context,
// the image's user and the node's abilities. The lists of masked paths are
// upstream's own; they name the CPUs of this host, nothing else of it.
func containerSecurity(pod *corev1.Pod, c *corev1.Container, o ContainerOptions) (*runtimeapi.LinuxContainerSecurityContext, error) {
	sc := securitycontext.DetermineEffectiveSecurityContext(pod, c)
	out := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces(pod),
		Privileged:       ptr.Deref(sc.Privileged, false),
		Capabilities:     capabilities(sc.Capabilities),
		SelinuxOptions:   selinux(sc.SELinuxOptions),
		RunAsUser:        int64Value(sc.RunAsUser),
		RunAsGroup:       int64Value(sc.RunAsGroup),
		ReadonlyRootfs:   ptr.Deref(sc.ReadOnlyRootFilesystem, false),
		NoNewPrivs:       securitycontext.AddNoNewPrivileges(sc),
		MaskedPaths:      securitycontext.ConvertToRuntimeMaskedPaths(sc.ProcMount),
		ReadonlyPaths:    securitycontext.ConvertToRuntimeReadonlyPaths(sc.ProcMount),
	}
	// A group without a user is refused by the runtime, so one is always named.
	if out.RunAsUser == nil {
		uid, name := imageUser(o.Image)
		out.RunAsUser, out.RunAsUsername = int64Value(uid), name
	}
	if psc := pod.Spec.SecurityContext; psc != nil {
		out.SupplementalGroups = groups(psc)
		if p := psc.SupplementalGroupsPolicy; p != nil {
			policy, ok := groupsPolicy[*p]
			if !ok {
				return nil, fmt.Errorf("unknown supplementalGroupsPolicy %q", *p)
			}
			out.SupplementalGroupsPolicy = policy
		}
	}
	var err error
	if out.Seccomp, err = seccomp(seccompProfile(pod, c), o.Node.SeccompRoot); err != nil {
		return nil, err
	}
	if out.Apparmor, out.ApparmorProfile, err = apparmor(apparmorProfile(pod, c), o.Node.AppArmor); err != nil {
		return nil, err
	}
	return out, nil
}

// imageUser is the numeric user that an image runs as, or its name; an image
// that says nothing runs as root.
func imageUser(img Image) (*int64, string) {
	if img.UID == nil && img.Username == "" {
		return new(int64), ""
	}
	if img.UID != nil {
		return img.UID, ""
	}
	return nil, img.Username
}

func capabilities(c *corev1.Capabilities) *runtimeapi.Capability {
	if c == nil {
		return nil
	}
	out := &runtimeapi.Capability{}
	for _, name := range c.Add {
		out.AddCapabilities = append(out.AddCapabilities, string(name))
	}
	for _, name := range c.Drop {
		out.DropCapabilities = append(out.DropCapabilities, string(name))
	}
	return out
}

func seccompProfile(pod *corev1.Pod, c *corev1.Container) *corev1.SeccompProfile {
	if c.SecurityContext != nil && c.SecurityContext.SeccompProfile != nil {
		return c.SecurityContext.SeccompProfile
	}
	if pod.Spec.SecurityContext != nil {
		return pod.Spec.SecurityContext.SeccompProfile
	}
	return nil
}

// seccomp converts a profile; none means unconfined, as in Kubernetes.
func seccomp(p *corev1.SeccompProfile, root string) (*runtimeapi.SecurityProfile, error) {
	if p == nil {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	}
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case corev1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case corev1.SeccompProfileTypeLocalhost:
		name := ptr.Deref(p.LocalhostProfile, "")
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("seccompProfile.localhostProfile %q is not a path below %s", name, root)
		}
		return &runtimeapi.SecurityProfile{
			ProfileType:  runtimeapi.SecurityProfile_Localhost,
			LocalhostRef: filepath.Join(root, name),
		}, nil
	}
	return nil, fmt.Errorf("unknown seccompProfile type %q", p.Type)
}

// apparmorProfile finds the container's profile: its own field, the
// annotation of old, the pod's field.
func apparmorProfile(pod *corev1.Pod, c *corev1.Container) *corev1.AppArmorProfile {
	if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
		return c.SecurityContext.AppArmorProfile
	}
	if old, ok := pod.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]; ok {
		name, local := strings.CutPrefix(old, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
		switch {
		case local:
			return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
		case old == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
			return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
		case old == corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
			return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
		}
	}
	if pod.Spec.SecurityContext != nil {
		return pod.Spec.SecurityContext.AppArmorProfile
	}
	return nil
}

// apparmor converts a profile, for the runtimes of today and, as a string,
// for containerd 1.6. No profile leaves the choice to the runtime.
func apparmor(p *corev1.AppArmorProfile, enabled bool) (*runtimeapi.SecurityProfile, string, error) {
	if p == nil {
		return nil, "", nil
	}
	if p.Type == corev1.AppArmorProfileTypeUnconfined {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined},
			corev1.DeprecatedAppArmorBetaProfileNameUnconfined, nil
	}
	if !enabled {
		return nil, "", errors.New("AppArmor is not enabled on this node")
	}
	switch p.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
			corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, nil
	case corev1.AppArmorProfileTypeLocalhost:
		name := ptr.Deref(p.LocalhostProfile, "")
		if name == "" {
			return nil, "", errors.New("appArmorProfile.localhostProfile is empty")
		}
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: name},
			corev1.DeprecatedAppArmorBetaProfileNamePrefix + name, nil
	}
	return nil, "", fmt.Errorf("unknown appArmorProfile type %q", p.Type)
}

// VerifyRunAsNonRoot refuses a container that must not run as root and would,
// or of which that cannot be known before it runs.
func VerifyRunAsNonRoot(pod *corev1.Pod, c *corev1.Container, img Image) error {
	sc := securitycontext.DetermineEffectiveSecurityContext(pod, c)
	if !ptr.Deref(sc.RunAsNonRoot, false) {
		return nil
	}
	if sc.RunAsUser != nil {
		if *sc.RunAsUser == 0 {
			return errors.New("container's runAsUser breaks non-root policy")
		}
		return nil
	}
	uid, name := imageUser(img)
	if uid == nil {
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", name)
	}
	if *uid == 0 {
		return errors.New("container has runAsNonRoot and image will run as root")
	}
	return nil
}
