"""The paths of the HTTP API, spelled once."""

BUNDLE_UPLOAD = "/v1/hosted_inference/model_bundle_upload"
CREATION_LOGS = "/v1/hosted_inference/endpoints/creation_logs"  # + /{endpoint name}
ARTIFACTS = "/v1/artifacts"  # + /{key}?expires=…&signature=…; PUT and GET, signed
BUCKET_HEADER = "openlaunch-bucket"
"""On an answer of the server that names a URL of its bucket: a client opens no other URL of another host."""

BUNDLES = "/v2/model-bundles"  # + /{id}, /latest, /clone-with-changes
BUNDLES_V1 = "/v1/model-bundles"  # the same
# + /{id}, /{id}/restart, /{id}/hand-over, /{id}/logs, /{id}/events, /{id}/metrics, /{id}/why,
# /{id}/workers, /{id}/recordings
# /{id}/canary, + /promote, /rollback
ENDPOINTS = "/v1/model-endpoints"
ENDPOINTS_SCHEMA = "/v1/model-endpoints-schema.json"
ENDPOINTS_API = "/v1/model-endpoints-api"
BATCH_JOBS = "/v1/batch-jobs"  # + /{id}?wait=SECONDS
BATCH_UPLOAD = "/v1/hosted_inference/batch_task_input_upload"
DOCKER_IMAGE_BATCH_JOBS = "/v1/docker-image-batch-jobs"  # + /{id}?wait=SECONDS, /{id}/logs
DOCKER_IMAGE_BATCH_JOB_BUNDLES = "/v1/docker-image-batch-job-bundles"  # + /{id}, /latest
TRIGGERS = "/v1/triggers"  # + /{id}
FILES = "/v1/files"  # + /{id}, /{id}/content
MODEL_BATCHES = "/v1/batches"  # + /{id}, /{id}/cancel
COMPLETIONS_SYNC = "/v1/llm/completions-sync"  # ?model_endpoint_name=
COMPLETIONS_STREAM = "/v1/llm/completions-stream"  # the same
LLM_ENDPOINTS = "/v1/llm/model-endpoints"  # + /{name}, /download
FINE_TUNES = "/v1/llm/fine-tunes"  # + /{id}, /{id}/cancel, /{id}/events
FINE_TUNING = "/v1/fine_tuning"  # + /jobs …, of OpenAI's API
BATCH_COMPLETIONS_V1 = "/v1/llm/batch-completions"
BATCH_COMPLETIONS = "/v2/batch-completions"  # + /{id}, /{id}/actions/cancel
KEYS = "/v1/keys"  # + /{id}
METRICS = "/metrics"
METRICS_SUMMARY = "/v1/metrics"
WHOAMI = "/v1/whoami"
PAGE_LINKS = "/page/links"
QUOTAS = "/v1/quotas"  # + /{owner}
SECRETS = "/v1/secrets"  # + /{name}
SECRETS_ROTATION = "/v1/secrets-rotation"
AUDIT_LOG = "/v1/audit-log"
STORAGE = "/v1/storage"
NODES = "/v1/nodes"  # + /{address or name}
SERVERS = "/v1/servers"
SUBSCRIPTIONS = "/v1/subscriptions"  # + /{id}
ENVIRONMENTS = "/v1/environments"  # + /{id}, /prune

SYNC_TASKS = "/v1/sync-tasks"
STREAMING_TASKS = "/v1/streaming-tasks"
# + /{id}?wait=SECONDS, and /{id}/: cancel, details, payload, rerun, why, deliveries, deliveries/resend
ASYNC_TASKS = "/v1/async-tasks"
CALLBACK_SIGNING = "/v1/callback-secret"
ASYNC_TASKS_BULK = "/v1/async-tasks/bulk"
ASYNC_TASKS_WAIT = "/v1/async-tasks/wait"

MODELS = "/v1/models"  # + /{model}
CHAT_COMPLETIONS = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MODEL_ROUTES_V2 = {f"/v2{path.removeprefix('/v1')}": path for path in (CHAT_COMPLETIONS, COMPLETIONS)}
"""Launch's names of two of the routes, which are the same."""
WITH_STREAM_OPTIONS = (CHAT_COMPLETIONS, COMPLETIONS)
"""Where a stream says its usage when `stream_options` asks for it."""
RESPONSES = "/v1/responses"
CONVERSATIONS = "/v1/conversations"  # of OpenAI's API, which stores them
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
RERANK = "/v1/rerank"
SCORE = "/v1/score"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
MODEL_FORMS = frozenset((TRANSCRIPTIONS, TRANSLATIONS))
"""Where a request is a form with a file, and not JSON."""
MODEL_ROUTES = frozenset(
    (CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS, RERANK, SCORE, SPEECH)
)
"""Where a request is JSON, which names its model."""

BY_NAME = "/e"
"""+ /{name} or /{owner}/{name}, and behind that nothing, /openapi.json, or /tasks/{id}."""

INFERENCE = "/v2"
"""+ nothing, /health/live, /health/ready, or /models/{name} or /models/{owner}/{name}, and behind that nothing,
/ready or /infer, each also below /versions/{version}."""

HEALTHZ = "/healthz"
READYZ = "/readyz"
HEALTHCHECK = "/healthcheck"
