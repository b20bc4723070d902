{{- define "openlaunch.name" -}}{{ printf "%s-openlaunch" .Release.Name | trunc 50 | trimSuffix "-" }}{{- end -}}

{{- define "openlaunch.labels" -}}
app.kubernetes.io/name: openlaunch
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "openlaunch.metadata" -}}
name: {{ .name }}
labels: {{- include "openlaunch.labels" .root | nindent 2 }}
{{- end -}}

{{- define "openlaunch.selector" -}}
app.kubernetes.io/name: openlaunch
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "openlaunch.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end -}}

{{- define "openlaunch.account" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "openlaunch.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end -}}
{{- end -}}

{{- /* HOST:PORT of each agent, by the names that a StatefulSet gives. */ -}}
{{- define "openlaunch.agents" -}}
{{- $name := include "openlaunch.name" . -}}
{{- $hosts := list -}}
{{- range $i := until (int .Values.agents.replicas) -}}
{{- $hosts = append $hosts (printf "%s-agent-%d.%s-agent:8001" $name $i $name) -}}
{{- end -}}
{{ join "," $hosts }}
{{- end -}}

{{- define "openlaunch.token" -}}
- name: OPENLAUNCH_CLUSTER_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ required "cluster.secret: name the secret whose key `token` servers and agents share" .Values.cluster.secret }}, key: token}
{{- end -}}

{{- /* A node of Ray is ready when its raylet listens. */ -}}
{{- define "openlaunch.rayContainer" -}}
image: {{ include "openlaunch.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
readinessProbe: {tcpSocket: {port: 6380}, periodSeconds: 2}
livenessProbe: {tcpSocket: {port: 6380}, periodSeconds: 10, failureThreshold: 6}
{{- end -}}

{{- define "openlaunch.ray" -}}{{ include "openlaunch.name" . }}-ray{{- end -}}

{{- define "openlaunch.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- /* Which nodes of Kubernetes pods may be on. */ -}}
{{- define "openlaunch.where" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
