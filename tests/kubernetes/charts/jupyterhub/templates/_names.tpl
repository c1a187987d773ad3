{{- define "labels" -}}
app: jupyterhub
release: {{ .Release.Name }}
chart: {{ .Chart.Name }}-{{ .Chart.Version }}
heritage: {{ .Release.Service }}
{{- end }}
{{- define "image" -}}
{{ .name }}:{{ .tag | default "stand-in" }}
{{- end }}
