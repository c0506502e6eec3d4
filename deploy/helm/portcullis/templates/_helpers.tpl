{{- define "portcullis.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "portcullis.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "portcullis.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "portcullis.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "portcullis.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What every process of the gateway is told beside its settings. */}}
{{- define "portcullis.environment" -}}
- name: PORTCULLIS_GATEWAY
  value: {{ .Values.gateway | quote }}
- name: PORTCULLIS_REDIS__URL
  value: {{ required "redis.url: where the policy lives, e.g. rediss://redis.example:6379/0" .Values.redis.url | quote }}
- name: PORTCULLIS_SIGNING__KEY_FILE
  value: /etc/portcullis/keys/signing.key
- name: PORTCULLIS_SIGNING__PUBLIC_KEY_FILES
  value: '["/etc/portcullis/keys/signing.pub"]'
- name: PORTCULLIS_PSEUDONYM_KEY_FILE
  value: /etc/portcullis/keys/pseudonym.key
{{- with .Values.redis.existingSecret }}
{{- range $variable, $key := dict "USERNAME" "username" "PASSWORD" "password" "REPLICA_USERNAME" "replica-username" "REPLICA_PASSWORD" "replica-password" }}
- name: PORTCULLIS_REDIS__{{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.redis.existingSecret | quote }}, key: {{ $key }}, optional: {{ ne $key "password" }}}}
{{- end }}
{{- end }}
{{- end }}

{{- define "portcullis.keys" -}}
- name: keys
  secret:
    secretName: {{ required "keys.existingSecret: a Secret with signing.key, signing.pub and pseudonym.key" .Values.keys.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
