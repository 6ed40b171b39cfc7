{{/* Labels of every object. Call with a dict of `root` and `component`. */}}
{{- define "littoral.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: littoral
{{ include "littoral.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels by which a component's pods are found; they never change in a release. */}}
{{- define "littoral.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "littoral.image" -}}
{{ .Values.registry }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "littoral.trainingImage" -}}
{{ .Values.registry }}{{ .Values.training.repository }}:{{ .Values.training.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What Pod Security's level "restricted" asks of a container, and a root file system that nothing can write to. */}}
{{- define "littoral.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The same of a pod. Call with the user's number. */}}
{{- define "littoral.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What all pods have alike. Service links would set LITTORAL_API_PORT to tcp://…, which is a setting of ours. */}}
{{- define "littoral.podCommon" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a pod may run. Call with the component's values. */}}
{{- define "littoral.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* How the database is reached. The password is a variable of PostgreSQL's own, so that it may hold any character. */}}
{{- define "littoral.databaseEnv" -}}
{{- if .Values.postgresql.enabled -}}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: password}
- name: LITTORAL_DATABASE
  value: postgresql+psycopg://{{ .Values.postgresql.database }}@{{ .Release.Name }}-postgresql:5432/{{ .Values.postgresql.database }}
{{- else -}}
- name: LITTORAL_DATABASE
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: url}
{{- end }}
{{- end }}

{{/* How the broker is reached. */}}
{{- define "littoral.brokerEnv" -}}
{{- if .Values.mosquitto.enabled -}}
- name: BROKER_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.broker.existingSecret }}, key: cloud-password}
- name: LITTORAL_BROKER
  value: mqtt://cloud:$(BROKER_PASSWORD)@{{ .Release.Name }}-mosquitto:1883
{{- else -}}
- name: LITTORAL_BROKER
  valueFrom:
    secretKeyRef: {name: {{ .Values.broker.existingSecret }}, key: url}
{{- end }}
{{- end }}

{{/* A claim's specification in a StatefulSet. Call with a dict of `name` and `persistence`. */}}
{{- define "littoral.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: {{ .name }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .persistence.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .persistence.size }}
{{- end }}

{{/* The ports of a NetworkPolicy's rule that lets names be looked up. */}}
{{- define "littoral.dnsEgress" -}}
- to:
    {{- if .Values.networkPolicy.dns.to }}
    {{- toYaml .Values.networkPolicy.dns.to | nindent 4 }}
    {{- else }}
    - namespaceSelector: {}
    {{- end }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}
