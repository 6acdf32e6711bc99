{{- /* Names are fixed: CRDs and policies are the whole cluster's, so there is one release in a cluster. */ -}}

{{- define "reserved-capacity.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default "reserved-capacity" -}}
{{- end -}}

{{- define "reserved-capacity.selectorLabels" -}}
app.kubernetes.io/name: reserved-capacity
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "reserved-capacity.labels" -}}
{{ include "reserved-capacity.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: reserved-capacity
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "reserved-capacity.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* "true" when the database is SQLite on a volume of this one pod, else empty. */ -}}
{{- define "reserved-capacity.sqlite" -}}
{{- if not (or .Values.database.url .Values.database.existingSecret.name) -}}true{{- end -}}
{{- end -}}

{{- define "reserved-capacity.claimName" -}}
{{- .Values.persistence.existingClaim | default "reserved-capacity-data" -}}
{{- end -}}

{{- /* One egress rule. Takes a dict of rule (to, ports) and protocols. */ -}}
{{- define "reserved-capacity.egressRule" -}}
- ports:
  {{- $protocols := .protocols }}
  {{- range $port := .rule.ports }}
  {{- range $protocol := $protocols }}
  - port: {{ $port }}
    protocol: {{ $protocol }}
  {{- end }}
  {{- end }}
  {{- with .rule.to }}
  to:
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
