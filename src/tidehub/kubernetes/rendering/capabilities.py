"""What a cluster serves, where no cluster is asked: the default of rendering offline. Pure data.

Charts ask for kinds (`.Capabilities.APIVersions.Has "networking.k8s.io/v1/Ingress"`), and Helm without a cluster knows
only groups and versions: jupyterhub 1.2 then renders an Ingress of `networking.k8s.io/v1beta1`, which Kubernetes 1.22
removed. Kinds: the API reference of Kubernetes 1.30 to 1.34, generally available, of groups that the charts use.
"""

from __future__ import annotations

DEFAULT_KUBE_VERSION = "1.34.0"
"""Kubernetes that is rendered for where nobody names one; in the range of every chart of the release sets."""

_KINDS: dict[str, tuple[str, ...]] = {
    "v1": (
        "ConfigMap", "Endpoints", "Namespace", "Node", "PersistentVolume", "PersistentVolumeClaim", "Pod",
        "ResourceQuota", "Secret", "Service", "ServiceAccount",
    ),
    "apps/v1": ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("CronJob", "Job"),
    "networking.k8s.io/v1": ("Ingress", "IngressClass", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    "scheduling.k8s.io/v1": ("PriorityClass",),
    "storage.k8s.io/v1": ("StorageClass",),
}  # fmt: skip

OFFLINE_API_VERSIONS: tuple[str, ...] = tuple(
    sorted({*_KINDS, *(f"{version}/{kind}" for version, kinds in _KINDS.items() for kind in kinds)})
)
"""As `Cluster.api_versions` gives them: `apps/v1` and `apps/v1/Deployment`."""

REMOVED: dict[tuple[str, str], tuple[tuple[int, int], str]] = {
    ("extensions/v1beta1", "Ingress"): ((1, 22), "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "Ingress"): ((1, 22), "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "IngressClass"): ((1, 22), "networking.k8s.io/v1"),
    ("extensions/v1beta1", "Deployment"): ((1, 16), "apps/v1"),
    ("apps/v1beta1", "Deployment"): ((1, 16), "apps/v1"),
    ("apps/v1beta2", "Deployment"): ((1, 16), "apps/v1"),
    ("apps/v1beta1", "StatefulSet"): ((1, 16), "apps/v1"),
    ("apps/v1beta2", "StatefulSet"): ((1, 16), "apps/v1"),
    ("extensions/v1beta1", "DaemonSet"): ((1, 16), "apps/v1"),
    ("apps/v1beta2", "DaemonSet"): ((1, 16), "apps/v1"),
    ("extensions/v1beta1", "NetworkPolicy"): ((1, 16), "networking.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "Role"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "RoleBinding"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRole"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRoleBinding"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"): ((1, 22), "apiextensions.k8s.io/v1"),
    ("admissionregistration.k8s.io/v1beta1", "MutatingWebhookConfiguration"): (
        (1, 22),
        "admissionregistration.k8s.io/v1",
    ),
    ("admissionregistration.k8s.io/v1beta1", "ValidatingWebhookConfiguration"): (
        (1, 22),
        "admissionregistration.k8s.io/v1",
    ),
    ("scheduling.k8s.io/v1beta1", "PriorityClass"): ((1, 22), "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "StorageClass"): ((1, 22), "storage.k8s.io/v1"),
    ("coordination.k8s.io/v1beta1", "Lease"): ((1, 22), "coordination.k8s.io/v1"),
    ("batch/v1beta1", "CronJob"): ((1, 25), "batch/v1"),
    ("policy/v1beta1", "PodDisruptionBudget"): ((1, 25), "policy/v1"),
    ("policy/v1beta1", "PodSecurityPolicy"): ((1, 25), "pod security admission"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler"): ((1, 25), "autoscaling/v2"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler"): ((1, 26), "autoscaling/v2"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): ((1, 25), "discovery.k8s.io/v1"),
}
"""What was removed, when, and what is there instead: the deprecation guide of kubernetes.io."""
