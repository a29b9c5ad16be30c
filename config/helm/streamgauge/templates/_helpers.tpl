{{- define "streamgauge.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "streamgauge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streamgauge.labels" -}}
{{ include "streamgauge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The labels with further ones, which replace those of the same name except the selector's. */}}
{{- define "streamgauge.labelsWith" -}}
{{- $selector := include "streamgauge.selector" (first .) | fromYaml -}}
{{- merge $selector (last .) (include "streamgauge.labels" (first .) | fromYaml) | toYaml -}}
{{- end -}}

{{/* The scheme of a server whose section is the second of the list. */}}
{{- define "streamgauge.scheme" -}}
{{- $section := printf "(?m)^\\s*(\\[%s\\.tls\\]|%s\\.tls\\.)" (last .) (last .) -}}
{{- ternary "https" "http" (regexMatch $section (first .).Values.config) -}}
{{- end -}}

{{- define "streamgauge.kind" -}}
{{- ternary "StatefulSet" "Deployment" .Values.persistence.enabled -}}
{{- end -}}

{{- define "streamgauge.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "streamgauge.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "streamgauge.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* The template of a pod, of the Deployment and of the StatefulSet. */}}
{{- define "streamgauge.pod" -}}
metadata:
  labels:
    {{- include "streamgauge.labelsWith" (list . .Values.podLabels) | nindent 4 }}
  {{- if or .Values.rolloutOnChange .Values.podAnnotations }}
  annotations:
    {{- if .Values.rolloutOnChange }}
    checksum/config: {{ .Values.config | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "streamgauge.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # server.stop_delay, server.drain_timeout, and ten seconds for the records.
  terminationGracePeriodSeconds: {{ add .Values.stopDelaySeconds .Values.drainSeconds 10 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: streamgauge
      image: {{ include "streamgauge.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: ["serve"]
      ports:
        - name: proxy
          containerPort: {{ .Values.port }}
        {{- if .Values.admin.expose }}
        - name: admin
          containerPort: {{ .Values.admin.port }}
        {{- end }}
      env:
        - name: STREAMGAUGE_SERVER__LISTEN
          value: "0.0.0.0:{{ .Values.port }}"
        - name: STREAMGAUGE_SERVER__STOP_DELAY
          value: "{{ .Values.stopDelaySeconds }}s"
        - name: STREAMGAUGE_SERVER__DRAIN_TIMEOUT
          value: "{{ .Values.drainSeconds }}s"
        - name: STREAMGAUGE_ADMIN__LISTEN
          value: "{{ ternary "0.0.0.0" "127.0.0.1" .Values.admin.expose }}:{{ .Values.admin.port }}"
        - name: STREAMGAUGE_LEDGER__PATH
          value: /var/lib/streamgauge/usage.db
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      # Probes run inside the container, so that they need no open port.
      startupProbe:
        exec:
          command: ["/streamgauge", "health"]
        periodSeconds: 1
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        exec:
          command: ["/streamgauge", "health"]
        periodSeconds: 10
        timeoutSeconds: 6
      readinessProbe:
        exec:
          command: ["/streamgauge", "health", "--ready"]
        periodSeconds: 5
        timeoutSeconds: 6
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: ["ALL"]
      volumeMounts:
        # Mounts the whole folder: a file mounted by subPath would never change.
        - name: config
          mountPath: /etc/streamgauge
          readOnly: true
        - name: ledger
          mountPath: /var/lib/streamgauge
        {{- range .Values.secrets }}
        - name: secret-{{ . }}
          mountPath: /run/secrets/{{ . }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "streamgauge.name" . }}
    {{- if not .Values.persistence.enabled }}
    - name: ledger
      emptyDir:
        sizeLimit: {{ .Values.persistence.emptyDirSize }}
    {{- end }}
    {{- range .Values.secrets }}
    - name: secret-{{ . }}
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
