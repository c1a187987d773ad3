"""A chart of a few objects that fails in every way one asks for."""

from __future__ import annotations

import json
from pathlib import Path

SECRET = "not-to-be-seen-anywhere"
CHART = {
    "Chart.yaml": 'apiVersion: v2\nname: tiny\nversion: 1.2.3\nappVersion: "9"\nkubeVersion: ">=1.25.0-0"\n',
    "values.yaml": (
        "{data: one, token: '', image: example.invalid/app:1, hook: '', app: '', kind: '', needs: '', "
        "quiet: 0}"
    ),
    "values.schema.json": json.dumps({"properties": {"quiet": {"type": "integer"}}}),
    "templates/all.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-data"}
data:
  data: {{ .Values.data | quote }}
  upgrade: {{ .Release.IsUpgrade | quote }}
  found: {{ (lookup "v1" "Namespace" "" .Release.Namespace).metadata | default dict | dig "name" "nothing" | quote }}
---
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}"}
stringData: {token: {{ .Values.token | quote }} }
---
{{ if .Values.app }}
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: 1
  selector: {matchLabels: {app: "{{ .Values.app }}"}}
  template:
    metadata: {labels: {app: "{{ .Values.app }}"}}
    spec: {containers: [{name: main, image: {{ .Values.image | quote }} }]}
{{ end }}
---
{{ if .Values.kind }}
apiVersion: gone.example.org/v1
kind: {{ .Values.kind }}
metadata: {name: x}
{{ end }}
{{ if eq .Values.needs "more" }}{{ required "more must be said" .Values.more }}{{ end }}
""",
    "templates/hook.yaml": """\
{{ if .Values.hook }}
apiVersion: batch/v1
kind: Job
metadata:
  name: "{{ .Release.Name }}-hook"
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: {{ .Values.hook | quote }} }]}
{{ end }}
""",
}


def tiny_chart(folder: Path) -> Path:
    """The chart, written to `folder`."""
    for path, text in CHART.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder
