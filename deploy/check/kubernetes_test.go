package check

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// manifests are the objects of deploy/kubernetes.
type manifests struct {
	deployments map[string]*apps.Deployment
	services    []*core.Service
	budgets     []*policy.PodDisruptionBudget
	policies    []*networking.NetworkPolicy
	scalers     []*autoscaling.HorizontalPodAutoscaler
	scaled      []*keda.ScaledObject
}

// readManifests decodes all of them, strictly: a field that its type does not have is an error.
func readManifests(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{deployments: map[string]*apps.Deployment{}}
	paths, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no manifests: %v", err)
	}
	for _, path := range paths {
		if filepath.Base(path) == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(content, []byte("\n---\n")) {
			m.add(t, path, document)
		}
	}
	return m
}

func (m *manifests) add(t *testing.T, path string, document []byte) {
	t.Helper()
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	switch is := kind.APIVersion + " " + kind.Kind; is {
	case "apps/v1 Deployment":
		d := decode[apps.Deployment](t, path, document)
		m.deployments[d.Name] = d
	case "v1 Service":
		m.services = append(m.services, decode[core.Service](t, path, document))
	case "policy/v1 PodDisruptionBudget":
		m.budgets = append(m.budgets, decode[policy.PodDisruptionBudget](t, path, document))
	case "networking.k8s.io/v1 NetworkPolicy":
		m.policies = append(m.policies, decode[networking.NetworkPolicy](t, path, document))
	case "autoscaling/v2 HorizontalPodAutoscaler":
		m.scalers = append(m.scalers, decode[autoscaling.HorizontalPodAutoscaler](t, path, document))
	case "keda.sh/v1alpha1 ScaledObject":
		m.scaled = append(m.scaled, decode[keda.ScaledObject](t, path, document))
	default:
		t.Errorf("%s: an object that is not looked at: %s", path, is)
	}
}

func decode[Object any](t *testing.T, path string, document []byte) *Object {
	t.Helper()
	object := new(Object)
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return object
}

// pods returns the pods' template that labels select, which must be exactly one.
func (m *manifests) pods(t *testing.T, who string, selector map[string]string) *core.PodTemplateSpec {
	t.Helper()
	var found []*core.PodTemplateSpec
	for _, d := range m.deployments {
		if len(selector) > 0 && selects(selector, d.Spec.Template.Labels) {
			found = append(found, &d.Spec.Template)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s selects %d kinds of pods by %v, want one", who, len(found), selector)
	}
	return found[0]
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func ports(template *core.PodTemplateSpec) (names []string) {
	for _, c := range template.Spec.Containers {
		for _, p := range c.Ports {
			names = append(names, p.Name)
		}
	}
	return names
}

func checkPort(t *testing.T, who string, port intstr.IntOrString, template *core.PodTemplateSpec) {
	t.Helper()
	if names := ports(template); port.Type != intstr.String || !slices.Contains(names, port.StrVal) {
		t.Errorf("%s: there is no port %q, there are %v", who, port.String(), names)
	}
}

func TestKubernetesDeployments(t *testing.T) {
	m := readManifests(t)
	if got, want := slices.Sorted(maps.Keys(m.deployments)), []string{"tallyman-coordinator", "tallyman-worker"}; !slices.Equal(got, want) {
		t.Fatalf("deployments %v, want %v", got, want)
	}
	for name, d := range m.deployments {
		if !selects(d.Spec.Selector.MatchLabels, d.Spec.Template.Labels) {
			t.Errorf("%s: its selector %v is not of its pods", name, d.Spec.Selector.MatchLabels)
		}
		pod := d.Spec.Template.Spec
		if pod.SecurityContext == nil || pod.SecurityContext.RunAsNonRoot == nil || !*pod.SecurityContext.RunAsNonRoot {
			t.Errorf("%s runs as root", name)
		}
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			var environment []string
			for _, e := range c.Env {
				environment = append(environment, e.Name)
			}
			checkCommand(t, name+"/"+c.Name, c.Args, environment)
			if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s/%s may write to its image", name, c.Name)
			}
			if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
				t.Errorf("%s/%s asks for no processor, or has no limit of memory", name, c.Name)
			}
			for _, probe := range []*core.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
				if probe != nil {
					checkPort(t, name+"/"+c.Name, probe.HTTPGet.Port, &d.Spec.Template)
				}
			}
		}
	}
	coordinator := m.deployments["tallyman-coordinator"]
	if c := coordinator.Spec.Template.Spec.Containers[0]; c.ReadinessProbe == nil || c.LivenessProbe == nil {
		t.Error("the coordinator has no probes")
	}
	if rolling := coordinator.Spec.Strategy.RollingUpdate; rolling == nil || rolling.MaxUnavailable.IntValue() != 0 {
		t.Error("an update takes coordinators away before others are there")
	}
}

func TestKubernetesServicesAndPolicies(t *testing.T) {
	m := readManifests(t)
	for _, s := range m.services {
		template := m.pods(t, "service "+s.Name, s.Spec.Selector)
		for _, p := range s.Spec.Ports {
			checkPort(t, "service "+s.Name, p.TargetPort, template)
		}
	}
	for _, b := range m.budgets {
		m.pods(t, "budget "+b.Name, b.Spec.Selector.MatchLabels)
	}
	closed := map[string]bool{}
	for _, p := range m.policies {
		template := m.pods(t, "policy "+p.Name, p.Spec.PodSelector.MatchLabels)
		closed[template.Labels["app.kubernetes.io/component"]] = len(p.Spec.PolicyTypes) == 2
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				checkPort(t, "policy "+p.Name, *port.Port, template)
			}
			if len(rule.From) == 0 {
				t.Errorf("policy %s lets everybody in", p.Name)
			}
		}
		for _, rule := range p.Spec.Egress {
			for _, to := range rule.To {
				other := m.pods(t, "policy "+p.Name, to.PodSelector.MatchLabels)
				for _, port := range rule.Ports {
					checkPort(t, "policy "+p.Name, *port.Port, other)
				}
			}
		}
	}
	if !closed["coordinator"] || !closed["worker"] {
		t.Errorf("policies in both directions are there for %v, want the coordinator and the worker", closed)
	}
}

func TestKubernetesScaling(t *testing.T) {
	m := readManifests(t)
	if len(m.scalers) != 1 || len(m.scaled) != 1 {
		t.Fatalf("%d autoscalers and %d objects of KEDA, want one of each", len(m.scalers), len(m.scaled))
	}
	const metric = "tallyman_oldest_pending_seconds"
	scaler := m.scalers[0]
	if d := m.deployments[scaler.Spec.ScaleTargetRef.Name]; d == nil || d.Spec.Replicas != nil {
		t.Errorf("%s scales %q, which is not there or has a number of its own", scaler.Name, scaler.Spec.ScaleTargetRef.Name)
	}
	if got := scaler.Spec.Metrics[0].External.Metric.Name; got != metric {
		t.Errorf("the autoscaler goes by %s, want %s", got, metric)
	}
	scaled := m.scaled[0]
	if d := m.deployments[scaled.Spec.ScaleTargetRef.Name]; d == nil {
		t.Errorf("%s scales %q, which is not there", scaled.Name, scaled.Spec.ScaleTargetRef.Name)
	}
	if query := scaled.Spec.Triggers[0].Metadata["query"]; !bytes.Contains([]byte(query), []byte(metric)) {
		t.Errorf("KEDA goes by %q, want %s", query, metric)
	}
	if err := keda.ValidateTriggers(scaled.Spec.Triggers); err != nil {
		t.Errorf("triggers: %v", err)
	}
	if err := keda.CheckReplicaCountBoundsAreValid(scaled); err != nil {
		t.Errorf("replicas: %v", err)
	}
}
