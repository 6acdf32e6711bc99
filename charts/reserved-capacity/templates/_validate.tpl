{{- /* What no single value decides; each refusal says what to change. Single values are checked by values.schema.json. */ -}}
{{- define "reserved-capacity.validate" -}}
{{- $replicas := int .Values.replicas -}}
{{- $sqlite := include "reserved-capacity.sqlite" . -}}
{{- if and (gt $replicas 1) $sqlite -}}
{{- fail (printf "replicas is %d and the database is SQLite, which lives on the volume of one pod: set database.existingSecret.name (or database.url) to a PostgreSQL database, or replicas to 1" $replicas) -}}
{{- end -}}
{{- if and (gt $replicas 1) (not .Values.leaderElection) -}}
{{- fail (printf "replicas is %d and leaderElection is false: all of them would do the same work; set leaderElection to true, or replicas to 1" $replicas) -}}
{{- end -}}
{{- if and .Values.database.url .Values.database.existingSecret.name -}}
{{- fail "database.url and database.existingSecret.name are both set: keep one of them" -}}
{{- end -}}
{{- if and .Values.billingTokenSecret.name (not .Values.billingUrl) -}}
{{- fail "billingTokenSecret.name is set and billingUrl is empty: the token would be sent nowhere; set billingUrl, or leave both empty" -}}
{{- end -}}
{{- if and (not .Values.persistence.enabled) .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim is set and persistence.enabled is false: the claim would not be used" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false: give the account that exists in serviceAccount.name, because rights and admission policies are bound to it" -}}
{{- end -}}
{{- if eq (int .Values.ports.metrics) (int .Values.ports.probes) -}}
{{- fail (printf "ports.metrics and ports.probes are both %d" (int .Values.ports.metrics)) -}}
{{- end -}}
{{- end -}}
