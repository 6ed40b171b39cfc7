{{/* A role's Deployment. Call with a dict of `root`, `role` and `ports`, a list of its container's further ports. */}}
{{- define "littoral.deployment" -}}
{{- $values := index .root.Values .role -}}
{{- $root := .root -}}
{{- $labels := dict "root" .root "component" .role -}}
{{- $keys := index (include "littoral.keys" . | fromYaml) .role -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $root.Release.Name }}-{{ .role }}
  labels:
    {{- include "littoral.labels" $labels | nindent 4 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $values) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # A new pod is ready before an old one is told to end.
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "littoral.selector" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "littoral.selector" $labels | nindent 8 }}
        littoral.dev/metrics: "true"
      annotations:
        kubectl.kubernetes.io/default-container: {{ .role }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "littoral.podCommon" $root | nindent 6 }}
      {{- if and (eq .role "controller") $root.Values.cluster.enabled }}
      serviceAccountName: {{ $root.Release.Name }}-controller
      automountServiceAccountToken: true
      {{- else }}
      automountServiceAccountToken: false
      {{- end }}
      # The pause before the end, the 10 s in which a role ends in order, the 5 s that a hanging database gets, and air.
      terminationGracePeriodSeconds: 30
      securityContext:
        {{- include "littoral.podSecurity" 10001 | nindent 8 }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "littoral.selector" $labels | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
      {{- include "littoral.placement" $values | nindent 6 }}
      {{- if $root.Values.postgresql.enabled }}
      # On the first start the chart's own database is not there yet: better to wait than to fail and start again.
      initContainers:
        - name: await-database
          image: {{ include "littoral.image" $root }}
          imagePullPolicy: {{ $root.Values.imagePullPolicy }}
          command:
            - python3
            - -c
            - |
              import signal, socket, sys, time
              signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
              while True:
                  try:
                      socket.create_connection(("{{ $root.Release.Name }}-postgresql", 5432), timeout=2).close()
                      break
                  except OSError as error:
                      print(f"waiting for the database: {error}", flush=True)
                      time.sleep(1)
          resources:
            requests: {cpu: 10m, memory: 32Mi}
            limits: {memory: 64Mi}
          securityContext:
            {{- include "littoral.containerSecurity" $root | nindent 12 }}
      {{- end }}
      containers:
        - name: {{ .role }}
          image: {{ include "littoral.image" $root }}
          imagePullPolicy: {{ $root.Values.imagePullPolicy }}
          args: [serve, --role, {{ .role }}]
          env:
            {{- include "littoral.env" . | nindent 12 }}
          ports:
            {{- range .ports }}
            - {{ toJson . }}
            {{- end }}
            - {name: metrics, containerPort: 9090}
          startupProbe:
            httpGet: {path: /healthz, port: metrics}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 90
          readinessProbe:
            httpGet: {path: /readyz, port: metrics}
            periodSeconds: 5
            timeoutSeconds: 5
          livenessProbe:
            httpGet: {path: /healthz, port: metrics}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          {{- if .ports }}
          # Until every node knows that this pod gets no new connections.
          lifecycle:
            preStop:
              sleep: {seconds: 5}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "littoral.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /var/lib/littoral}
            - {name: tmp, mountPath: /tmp}
            {{- if $keys }}
            - {name: keys, mountPath: /var/run/littoral/keys, readOnly: true}
            {{- end }}
      volumes:
        - name: data
          emptyDir: {}
        - name: tmp
          emptyDir: {}
        {{- if $keys }}
        - name: keys
          projected:
            defaultMode: 0440
            sources:
              {{- range $keys }}
              - secret: {name: {{ $root.Values.signingKeys.existingSecret }}-{{ . }}}
              {{- end }}
        {{- end }}
{{- end }}

{{/* What each role signs, and so which of the Secrets of `littoral keys secret` it has; cloud/app.py says why. */}}
{{- define "littoral.keys" -}}
api: [deployment, manifest, metadata, models]
ingest: []
publisher: [metadata, models]
controller: [deployment]
{{- end }}

{{/* A role's settings. */}}
{{- define "littoral.env" -}}
{{- $root := .root -}}
{{ include "littoral.databaseEnv" $root }}
{{ include "littoral.brokerEnv" $root }}
- {name: LITTORAL_DIR, value: /var/lib/littoral}
- {name: LITTORAL_HOST, value: 0.0.0.0}
- {name: LITTORAL_ARTIFACTS, value: database}
{{- if index (include "littoral.keys" . | fromYaml) .role }}
- {name: LITTORAL_SIGNING_KEYS, value: /var/run/littoral/keys}
{{- end }}
- {name: LITTORAL_METRICS_PORT, value: "9090"}
- {name: LITTORAL_API, value: "http://{{ $root.Release.Name }}-api:{{ $root.Values.api.service.port }}"}
{{- with $root.Values.api.tokenSecret }}
{{- if eq $.role "api" }}
- name: LITTORAL_API_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: token}
{{- else if eq $.role "controller" }}
- {name: LITTORAL_TRAINING_TOKEN, value: {{ . }}}
{{- end }}
{{- end }}
{{- if and (eq .role "controller") $root.Values.cluster.enabled }}
- {name: LITTORAL_CLUSTER, value: "true"}
- {name: LITTORAL_TRAINING_IMAGE, value: {{ include "littoral.trainingImage" $root }}}
- {name: LITTORAL_TRAINING_ACCOUNT, value: {{ $root.Release.Name }}-training}
{{- end }}
{{- range $name, $value := $root.Values.settings }}
- {name: {{ printf "LITTORAL_%s" (upper $name) }}, value: {{ include "littoral.text" $value | quote }}}
{{- end }}
{{- with $root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A value as the environment has it: Helm reads whole numbers as floats, and would write 1e+07 for a large one. */}}
{{- define "littoral.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}
