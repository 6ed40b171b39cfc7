{{- define "littoral-edge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "littoral-edge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: littoral
{{ include "littoral-edge.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "littoral-edge.image" -}}
{{ .Values.registry }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "littoral-edge.priorityClass" -}}
{{ .Values.priorityClass.name | default (.Values.priorityClass.create | ternary .Release.Name "") }}
{{- end }}

{{/* A value as the environment has it: Helm reads whole numbers as floats, and would write 1e+07 for a large one. */}}
{{- define "littoral-edge.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* The labels of the device as its setting has them: k=v,k=v */}}
{{- define "littoral-edge.deviceLabels" -}}
{{- $pairs := list }}
{{- range $key, $value := .Values.labels }}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) }}
{{- end }}
{{- join "," $pairs }}
{{- end }}
