package admit

import (
	"context"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1convert "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	"k8s.io/kubernetes/pkg/capabilities"
)

// Default fills in what a Kubernetes API server would: upstream's defaults of
// a Pod, the namespace, the service account's name and the priority of the two
// built-in priority classes. Doing it twice changes nothing.
func Default(pod *corev1.Pod) {
	corev1convert.SetObjectDefaults_Pod(pod)
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
		pod.Spec.DeprecatedServiceAccount = "default"
	}
	if value, ok := systemPriority(pod.Spec.PriorityClassName); ok && pod.Spec.Priority == nil {
		pod.Spec.Priority = &value
	}
}

// systemPriority is the value of a priority class that every cluster has.
func systemPriority(class string) (int32, bool) {
	switch class {
	case scheduling.SystemClusterCritical:
		return scheduling.SystemCriticalPriority, true
	case scheduling.SystemNodeCritical:
		return scheduling.SystemCriticalPriority + 1000, true
	}
	return 0, false
}

// Validate says what a Kubernetes API server would find wrong with a new pod.
// It wants a pod with defaults.
func Validate(pod *corev1.Pod) field.ErrorList {
	// Upstream keeps in a global whether privileged containers are allowed: on
	// this node they are. Only the first call counts.
	capabilities.Setup(true, 0)
	internal, err := convert(pod)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	opts := podapi.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, nil, &internal.ObjectMeta, nil)
	opts.ResourceIsPod = true
	return validation.ValidatePodCreate(internal, opts)
}

func convert(pod *corev1.Pod) (*core.Pod, error) {
	internal := &core.Pod{}
	return internal, corev1convert.Convert_v1_Pod_To_core_Pod(pod.DeepCopy(), internal, nil)
}

// Check returns what a pod from a manifest goes through: it is judged, loses
// what only a server may write, gets its defaults and this node's name, and is
// validated. The pod is complete when no problem came back.
func Check(nodeName string) func(*corev1.Pod) (warnings []string, problems field.ErrorList) {
	return func(pod *corev1.Pod) ([]string, field.ErrorList) {
		warnings, refused := Warnings(pod), Pod(pod, nodeName)
		meta := pod.ObjectMeta
		pod.ObjectMeta = metav1.ObjectMeta{
			Name: meta.Name, Namespace: meta.Namespace, Labels: meta.Labels, Annotations: meta.Annotations,
		}
		pod.Status = corev1.PodStatus{}
		pod.Spec.NodeName = nodeName
		Default(pod)
		refused = append(refused, tooLong(pod)...)
		return append(warnings, upstreamWarnings(pod)...), append(refused, unsaid(refused, Validate(pod))...)
	}
}

// maxNames bounds a pod's two names together, in bytes: with its UID they make
// the name of a file.
const maxNames = 200

func tooLong(pod *corev1.Pod) field.ErrorList {
	if len(pod.Namespace)+len(pod.Name) <= maxNames {
		return nil
	}
	return field.ErrorList{field.TooLong(field.NewPath("metadata", "name"), "", maxNames-len(pod.Namespace))}
}

func upstreamWarnings(pod *corev1.Pod) []string {
	internal, err := convert(pod)
	if err != nil {
		return nil // Validate has said it
	}
	return podapi.GetWarningsForPod(context.Background(), internal, nil)
}

// unsaid drops the findings about fields that are refused anyhow.
func unsaid(refused, more field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(more, func(e *field.Error) bool {
		return slices.ContainsFunc(refused, func(r *field.Error) bool {
			rest, below := strings.CutPrefix(e.Field, r.Field)
			return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
		})
	})
}

func sortedKeys(m reflect.Value) []reflect.Value {
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}
