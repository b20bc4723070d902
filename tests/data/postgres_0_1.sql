-- A PostgreSQL database of version 0.1, as that server made it, with the same rows as
-- schema_0_1.sql. Written by tests/contract/dump_schema.py, and never changed once that version is
-- released. SHA-256 of the file that it was made from: e86b9653ce62bf5ada77b15d4eb7077829bfc901572db28a2a4176812fb3673a
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.answers (
    owner text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    digest bytea NOT NULL,
    expires_at double precision NOT NULL,
    body_key text COLLATE pg_catalog."C",
    body bytea,
    server text COLLATE pg_catalog."C"
);
CREATE TABLE public.api_keys (
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    role text NOT NULL COLLATE pg_catalog."C",
    prefix text NOT NULL COLLATE pg_catalog."C",
    digest bytea NOT NULL,
    created_at double precision NOT NULL,
    revoked_at double precision,
    expires_at double precision,
    requests_per_second double precision,
    burst integer,
    requests_per_day integer,
    tokens_per_minute bigint,
    tokens_per_day bigint
);
CREATE TABLE public.audit_log (
    seq bigint NOT NULL,
    at double precision NOT NULL,
    key_id text COLLATE pg_catalog."C",
    owner text COLLATE pg_catalog."C",
    address text COLLATE pg_catalog."C",
    action text NOT NULL COLLATE pg_catalog."C",
    method text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    object_id text COLLATE pg_catalog."C",
    summary json NOT NULL,
    status smallint NOT NULL,
    times integer NOT NULL,
    object_owner text COLLATE pg_catalog."C"
);
CREATE SEQUENCE public.audit_log_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.audit_log_seq_seq OWNED BY public.audit_log.seq;
CREATE TABLE public.batch_jobs (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    bundle_id text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    status_reason text COLLATE pg_catalog."C",
    input_key text NOT NULL COLLATE pg_catalog."C",
    serialization_format text NOT NULL COLLATE pg_catalog."C",
    labels json NOT NULL,
    spec json NOT NULL,
    timeout_seconds double precision NOT NULL,
    created_at double precision NOT NULL,
    finished_at double precision,
    total integer,
    completed integer,
    result_key text COLLATE pg_catalog."C",
    cleared boolean NOT NULL
);
CREATE SEQUENCE public.batch_jobs_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.batch_jobs_seq_seq OWNED BY public.batch_jobs.seq;
CREATE TABLE public.bundles (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    flavor json NOT NULL,
    metadata json NOT NULL,
    schema_location text COLLATE pg_catalog."C",
    schemas json NOT NULL,
    created_at double precision NOT NULL,
    version integer NOT NULL
);
CREATE SEQUENCE public.bundles_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.bundles_seq_seq OWNED BY public.bundles.seq;
CREATE TABLE public.cluster (
    name text NOT NULL COLLATE pg_catalog."C",
    url_secret bytea NOT NULL
);
CREATE TABLE public.deliveries (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    task_id text NOT NULL COLLATE pg_catalog."C",
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    receiver text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    auth json,
    status text NOT NULL COLLATE pg_catalog."C",
    created_at double precision NOT NULL,
    next_at double precision,
    finished_at double precision,
    failures smallint NOT NULL,
    attempts json NOT NULL,
    progress boolean NOT NULL,
    body bytea
);
CREATE SEQUENCE public.deliveries_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.deliveries_seq_seq OWNED BY public.deliveries.seq;
CREATE TABLE public.docker_image_bundles (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    image_repository text NOT NULL COLLATE pg_catalog."C",
    image_tag text NOT NULL COLLATE pg_catalog."C",
    command json NOT NULL,
    env json NOT NULL,
    mount_location text COLLATE pg_catalog."C",
    resources json NOT NULL,
    public boolean NOT NULL,
    created_at double precision NOT NULL
);
CREATE SEQUENCE public.docker_image_bundles_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.docker_image_bundles_seq_seq OWNED BY public.docker_image_bundles.seq;
CREATE TABLE public.docker_image_jobs (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    bundle_id text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    status_reason text COLLATE pg_catalog."C",
    job_config json,
    labels json NOT NULL,
    spec json NOT NULL,
    max_runtime double precision NOT NULL,
    override_max_runtime integer,
    created_at double precision NOT NULL,
    trigger_id text COLLATE pg_catalog."C",
    due_at double precision,
    held text NOT NULL COLLATE pg_catalog."C",
    started_at double precision,
    finished_at double precision
);
CREATE SEQUENCE public.docker_image_jobs_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.docker_image_jobs_seq_seq OWNED BY public.docker_image_jobs.seq;
CREATE TABLE public.endpoint_events (
    seq bigint NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    detail text NOT NULL COLLATE pg_catalog."C",
    count integer NOT NULL,
    first_at double precision NOT NULL,
    last_at double precision NOT NULL
);
CREATE SEQUENCE public.endpoint_events_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.endpoint_events_seq_seq OWNED BY public.endpoint_events.seq;
CREATE TABLE public.endpoints (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    endpoint_type text NOT NULL COLLATE pg_catalog."C",
    bundle_id text NOT NULL COLLATE pg_catalog."C",
    generation integer NOT NULL,
    spec json NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    status_reason text COLLATE pg_catalog."C",
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    ready_generation integer,
    ready_bundle_id text COLLATE pg_catalog."C",
    rejected_generation integer,
    canary json,
    ready_spec json
);
CREATE SEQUENCE public.endpoints_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.endpoints_seq_seq OWNED BY public.endpoints.seq;
CREATE TABLE public.files (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    filename text NOT NULL COLLATE pg_catalog."C",
    size bigint NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    created_at double precision NOT NULL,
    purpose text COLLATE pg_catalog."C"
);
CREATE SEQUENCE public.files_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.files_seq_seq OWNED BY public.files.seq;
CREATE TABLE public.gateways (
    id text NOT NULL COLLATE pg_catalog."C",
    address text NOT NULL COLLATE pg_catalog."C",
    until double precision NOT NULL
);
CREATE TABLE public.key_usage (
    key_id text NOT NULL COLLATE pg_catalog."C",
    day integer NOT NULL,
    requests bigint NOT NULL
);
CREATE TABLE public.last_commit (
    writer text NOT NULL COLLATE pg_catalog."C",
    mark text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.leader (
    epoch bigint NOT NULL,
    holder text NOT NULL COLLATE pg_catalog."C",
    until double precision NOT NULL
);
CREATE TABLE public.metric_points (
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    step integer NOT NULL,
    at double precision NOT NULL,
    points bytea NOT NULL
);
CREATE TABLE public.model_batches (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    status_reason text COLLATE pg_catalog."C",
    endpoint text NOT NULL COLLATE pg_catalog."C",
    input_file_id text NOT NULL COLLATE pg_catalog."C",
    input_key text NOT NULL COLLATE pg_catalog."C",
    completion_window text NOT NULL COLLATE pg_catalog."C",
    key_id text NOT NULL COLLATE pg_catalog."C",
    metadata json NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL,
    started_at double precision,
    finished_at double precision,
    total integer,
    completed integer,
    failed integer,
    output_file_id text COLLATE pg_catalog."C",
    error_file_id text COLLATE pg_catalog."C",
    completions json,
    usage json,
    cleared boolean NOT NULL
);
CREATE SEQUENCE public.model_batches_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.model_batches_seq_seq OWNED BY public.model_batches.seq;
CREATE TABLE public.queue (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    priority integer NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    max_attempts smallint NOT NULL,
    recoveries smallint DEFAULT 0 NOT NULL,
    lease_owner text COLLATE pg_catalog."C",
    lease_until double precision,
    reason text COLLATE pg_catalog."C"
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='50000');
CREATE TABLE public.quotas (
    owner text NOT NULL COLLATE pg_catalog."C",
    limits json NOT NULL
);
CREATE TABLE public.secrets (
    owner text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    sealed bytea NOT NULL,
    updated_at double precision NOT NULL
);
CREATE TABLE public.subscriptions (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    events json NOT NULL,
    created_at double precision NOT NULL
);
CREATE SEQUENCE public.subscriptions_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.subscriptions_seq_seq OWNED BY public.subscriptions.seq;
CREATE TABLE public.task_inputs (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    priority integer NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL,
    max_attempts smallint NOT NULL,
    return_pickled boolean NOT NULL,
    timeout_seconds double precision,
    idempotency_key text COLLATE pg_catalog."C",
    idempotency_digest bytea,
    payload_key text COLLATE pg_catalog."C",
    payload bytea
);
ALTER TABLE public.task_inputs ALTER COLUMN seq ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.task_inputs_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.task_notes (
    task_id text NOT NULL COLLATE pg_catalog."C",
    number bigint NOT NULL,
    progress bytea,
    partial_number bigint,
    partial bytea
);
CREATE TABLE public.task_results (
    seq bigint NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    failed_of text COLLATE pg_catalog."C",
    finished_at double precision NOT NULL,
    attempts smallint NOT NULL,
    recoveries smallint NOT NULL,
    status_code smallint,
    reason text COLLATE pg_catalog."C",
    result_key text COLLATE pg_catalog."C",
    result bytea
);
CREATE VIEW public.tasks AS
 SELECT sent.seq,
    sent.id,
    sent.endpoint_id,
    sent.owner,
    COALESCE(ended.status,
        CASE
            WHEN (queue.lease_owner IS NULL) THEN 'PENDING'::text
            ELSE 'STARTED'::text
        END) AS status,
    sent.priority,
    sent.created_at,
    sent.expires_at,
    NULL::double precision AS started_at,
    ended.finished_at,
    COALESCE(ended.attempts, queue.attempts) AS attempts,
    sent.max_attempts,
    COALESCE(ended.recoveries, queue.recoveries) AS recoveries,
    sent.return_pickled,
    sent.timeout_seconds,
    queue.lease_owner,
    queue.lease_until,
    ended.status_code,
    COALESCE(ended.reason, queue.reason) AS reason,
    ended.failed_of,
    sent.idempotency_key,
    sent.idempotency_digest,
    sent.payload_key,
    ended.result_key,
    sent.payload,
    ended.result
   FROM ((public.task_inputs sent
     LEFT JOIN LATERAL ( SELECT queue_1.seq,
            queue_1.id,
            queue_1.endpoint_id,
            queue_1.owner,
            queue_1.priority,
            queue_1.created_at,
            queue_1.expires_at,
            queue_1.attempts,
            queue_1.max_attempts,
            queue_1.recoveries,
            queue_1.lease_owner,
            queue_1.lease_until,
            queue_1.reason
           FROM public.queue queue_1
          WHERE (queue_1.seq = sent.seq)
         OFFSET 0) queue ON (true))
     LEFT JOIN public.task_results ended ON ((ended.seq = sent.seq)));
CREATE TABLE public.token_usage (
    key_id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    day integer NOT NULL,
    tokens bigint NOT NULL
);
CREATE TABLE public.triggers (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    cron_schedule text NOT NULL COLLATE pg_catalog."C",
    bundle_id text COLLATE pg_catalog."C",
    default_job_config json,
    default_job_metadata json,
    suspended boolean NOT NULL,
    next_at double precision NOT NULL,
    created_at double precision NOT NULL,
    endpoint_name text COLLATE pg_catalog."C",
    args json,
    last_at double precision,
    last_task_id text COLLATE pg_catalog."C",
    last_error text COLLATE pg_catalog."C"
);
CREATE SEQUENCE public.triggers_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.triggers_seq_seq OWNED BY public.triggers.seq;
ALTER TABLE ONLY public.audit_log ALTER COLUMN seq SET DEFAULT nextval('public.audit_log_seq_seq'::regclass);
ALTER TABLE ONLY public.batch_jobs ALTER COLUMN seq SET DEFAULT nextval('public.batch_jobs_seq_seq'::regclass);
ALTER TABLE ONLY public.bundles ALTER COLUMN seq SET DEFAULT nextval('public.bundles_seq_seq'::regclass);
ALTER TABLE ONLY public.deliveries ALTER COLUMN seq SET DEFAULT nextval('public.deliveries_seq_seq'::regclass);
ALTER TABLE ONLY public.docker_image_bundles ALTER COLUMN seq SET DEFAULT nextval('public.docker_image_bundles_seq_seq'::regclass);
ALTER TABLE ONLY public.docker_image_jobs ALTER COLUMN seq SET DEFAULT nextval('public.docker_image_jobs_seq_seq'::regclass);
ALTER TABLE ONLY public.endpoint_events ALTER COLUMN seq SET DEFAULT nextval('public.endpoint_events_seq_seq'::regclass);
ALTER TABLE ONLY public.endpoints ALTER COLUMN seq SET DEFAULT nextval('public.endpoints_seq_seq'::regclass);
ALTER TABLE ONLY public.files ALTER COLUMN seq SET DEFAULT nextval('public.files_seq_seq'::regclass);
ALTER TABLE ONLY public.model_batches ALTER COLUMN seq SET DEFAULT nextval('public.model_batches_seq_seq'::regclass);
ALTER TABLE ONLY public.subscriptions ALTER COLUMN seq SET DEFAULT nextval('public.subscriptions_seq_seq'::regclass);
ALTER TABLE ONLY public.triggers ALTER COLUMN seq SET DEFAULT nextval('public.triggers_seq_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.answers VALUES ('ada', 'k', '\x02', 1000, NULL, '\x7b7d', NULL);
INSERT INTO public.api_keys VALUES ('key-1', 'ada', 'user', 'ol_abcd', '\x01', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit_log VALUES (1, 2, 'key-1', 'ada', NULL, 'create_endpoint', 'POST', '/v1/model-endpoints', NULL, '{}', 200, 1, NULL);
INSERT INTO public.batch_jobs VALUES (1, 'job-1', 'ada', 'bun-1', 'RUNNING', NULL, 'jobs/job-1', 'JSON', '{}', '{"min_workers": 0, "max_workers": 1, "per_worker": 1, "cpus": 1.0, "memory": 536870912, "storage": 0, "gpus": 0, "labels": {"team": "vision"}, "nodes_per_worker": 1}', 60, 8, NULL, NULL, NULL, NULL, false);
INSERT INTO public.bundles VALUES (1, 'bun-1', 'ada', 'cat', '{"flavor": "cloudpickle_artifact", "load_predict_fn": "cats.predict", "load_model_fn": "cats.load", "requirements": ["pillow"], "framework": {"framework_type": "pytorch", "pytorch_image_tag": "2.0"}, "app_config": null, "location": "s3://openlaunch/bundles/616461/1", "python_version": "3.11"}', '{}', NULL, '{}', 3, 1);
INSERT INTO public.deliveries VALUES (1, 'msg_done', 'done', 'end-1', 'ada', 'receiver.example', 'https://receiver.example/', 'null', 'PENDING', 5, 6, NULL, 0, '[]', true, NULL);
INSERT INTO public.docker_image_bundles VALUES (1, 'img-1', 'ada', 'report', 'registry.example/report', '1', '["run"]', '{}', NULL, '{}', false, 9);
INSERT INTO public.docker_image_jobs VALUES (1, 'run-1', 'ada', 'img-1', 'PENDING', NULL, 'null', '{}', '{"min_workers": 0, "max_workers": 1, "per_worker": 1, "cpus": 1.0, "memory": 536870912, "storage": 0, "gpus": 0, "labels": {"team": "vision"}, "nodes_per_worker": 1}', 60, NULL, 10, 'trg-1', 11, '', NULL, NULL);
INSERT INTO public.endpoint_events VALUES (1, 'end-1', 'created', 'with bundle bun-1', 1, 4, 4);
INSERT INTO public.endpoints VALUES (1, 'end-1', 'ada', 'cats', 'async', 'bun-1', 1, '{"min_workers": 0, "max_workers": 1, "per_worker": 1, "cpus": 1.0, "memory": 536870912, "storage": 0, "gpus": 0, "labels": {"team": "vision"}, "nodes_per_worker": 1}', 'READY', NULL, 4, 4, 1, 'bun-1', NULL, NULL, NULL);
INSERT INTO public.files VALUES (1, 'file-1', 'ada', 'cats.csv', 9, 'files/file-1', 7, NULL);
INSERT INTO public.key_usage VALUES ('key-1', 20000, 7);
INSERT INTO public.last_commit VALUES ('', 'b7120b325f0473c8');
INSERT INTO public.leader VALUES (0, '', 0);
INSERT INTO public.metric_points VALUES ('end-1', 60, 1000, '\x00');
INSERT INTO public.model_batches VALUES (1, 'batch-1', 'ada', 'RUNNING', NULL, '/v1/completions', 'file-1', 'files/file-1', '24h', 'key-1', '{}', 7, 86407, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'null', 'null', false);
INSERT INTO public.queue VALUES (1, 'waits', 'end-1', 'ada', 5, 5, 1000, 1, 3, 0, NULL, NULL, NULL);
INSERT INTO public.quotas VALUES ('ada', '{"endpoints": 5}');
INSERT INTO public.secrets VALUES ('ada', 'hf-token', '\x00', 9);
INSERT INTO public.subscriptions VALUES (1, 'sub_1', 'ada', 'https://receiver.example/', '["endpoint_failed"]', 9);
INSERT INTO public.task_inputs VALUES (1, 'waits', 'end-1', 'ada', 5, 5, 1000, 3, true, 2.5, NULL, NULL, NULL, '\x7b7d');
INSERT INTO public.task_inputs VALUES (2, 'done', 'end-1', 'ada', 0, 5, 1000, 3, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.task_notes VALUES ('done', 5, '\x7b7d', NULL, NULL);
INSERT INTO public.task_results VALUES (2, 'SUCCESS', NULL, 6, 1, 0, 200, NULL, NULL, '\x7b7d');
INSERT INTO public.token_usage VALUES ('key-1', 'ada', 19, 1000);
INSERT INTO public.triggers VALUES (1, 'trg-1', 'ada', 'nightly', '0 3 * * *', 'img-1', 'null', 'null', false, 11, 10, NULL, 'null', NULL, NULL, NULL);
SELECT pg_catalog.setval('public.audit_log_seq_seq', 1, true);
SELECT pg_catalog.setval('public.batch_jobs_seq_seq', 1, true);
SELECT pg_catalog.setval('public.bundles_seq_seq', 1, true);
SELECT pg_catalog.setval('public.deliveries_seq_seq', 1, true);
SELECT pg_catalog.setval('public.docker_image_bundles_seq_seq', 1, true);
SELECT pg_catalog.setval('public.docker_image_jobs_seq_seq', 1, true);
SELECT pg_catalog.setval('public.endpoint_events_seq_seq', 1, true);
SELECT pg_catalog.setval('public.endpoints_seq_seq', 1, true);
SELECT pg_catalog.setval('public.files_seq_seq', 1, true);
SELECT pg_catalog.setval('public.model_batches_seq_seq', 1, true);
SELECT pg_catalog.setval('public.subscriptions_seq_seq', 1, true);
SELECT pg_catalog.setval('public.task_inputs_seq_seq', 2, true);
SELECT pg_catalog.setval('public.triggers_seq_seq', 1, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkey PRIMARY KEY (version_num);
ALTER TABLE ONLY public.gateways
    ADD CONSTRAINT gateways_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.last_commit
    ADD CONSTRAINT last_commit_pkey PRIMARY KEY (writer);
ALTER TABLE ONLY public.answers
    ADD CONSTRAINT pk_answers PRIMARY KEY (owner, idempotency_key);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT pk_api_keys PRIMARY KEY (id);
ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT pk_audit_log PRIMARY KEY (seq);
ALTER TABLE ONLY public.batch_jobs
    ADD CONSTRAINT pk_batch_jobs PRIMARY KEY (seq);
ALTER TABLE ONLY public.bundles
    ADD CONSTRAINT pk_bundles PRIMARY KEY (seq);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT pk_deliveries PRIMARY KEY (seq);
ALTER TABLE ONLY public.docker_image_bundles
    ADD CONSTRAINT pk_docker_image_bundles PRIMARY KEY (seq);
ALTER TABLE ONLY public.docker_image_jobs
    ADD CONSTRAINT pk_docker_image_jobs PRIMARY KEY (seq);
ALTER TABLE ONLY public.endpoint_events
    ADD CONSTRAINT pk_endpoint_events PRIMARY KEY (seq);
ALTER TABLE ONLY public.endpoints
    ADD CONSTRAINT pk_endpoints PRIMARY KEY (seq);
ALTER TABLE ONLY public.files
    ADD CONSTRAINT pk_files PRIMARY KEY (seq);
ALTER TABLE ONLY public.key_usage
    ADD CONSTRAINT pk_key_usage PRIMARY KEY (key_id);
ALTER TABLE ONLY public.metric_points
    ADD CONSTRAINT pk_metric_points PRIMARY KEY (endpoint_id, step, at);
ALTER TABLE ONLY public.model_batches
    ADD CONSTRAINT pk_model_batches PRIMARY KEY (seq);
ALTER TABLE ONLY public.quotas
    ADD CONSTRAINT pk_quotas PRIMARY KEY (owner);
ALTER TABLE ONLY public.secrets
    ADD CONSTRAINT pk_secrets PRIMARY KEY (owner, name);
ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT pk_subscriptions PRIMARY KEY (seq);
ALTER TABLE ONLY public.task_notes
    ADD CONSTRAINT pk_task_notes PRIMARY KEY (task_id);
ALTER TABLE ONLY public.token_usage
    ADD CONSTRAINT pk_token_usage PRIMARY KEY (key_id, owner, day);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT pk_triggers PRIMARY KEY (seq);
ALTER TABLE ONLY public.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.task_inputs
    ADD CONSTRAINT task_inputs_id_key UNIQUE (id);
ALTER TABLE ONLY public.task_inputs
    ADD CONSTRAINT task_inputs_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.task_results
    ADD CONSTRAINT task_results_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT uq_api_keys_digest UNIQUE (digest);
ALTER TABLE ONLY public.batch_jobs
    ADD CONSTRAINT uq_batch_jobs_id UNIQUE (id);
ALTER TABLE ONLY public.bundles
    ADD CONSTRAINT uq_bundles_id UNIQUE (id);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT uq_deliveries_id UNIQUE (id);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT uq_deliveries_task_id UNIQUE (task_id);
ALTER TABLE ONLY public.docker_image_bundles
    ADD CONSTRAINT uq_docker_image_bundles_id UNIQUE (id);
ALTER TABLE ONLY public.docker_image_jobs
    ADD CONSTRAINT uq_docker_image_jobs_due UNIQUE (trigger_id, due_at);
ALTER TABLE ONLY public.docker_image_jobs
    ADD CONSTRAINT uq_docker_image_jobs_id UNIQUE (id);
ALTER TABLE ONLY public.endpoints
    ADD CONSTRAINT uq_endpoints_id UNIQUE (id);
ALTER TABLE ONLY public.files
    ADD CONSTRAINT uq_files_id UNIQUE (id);
ALTER TABLE ONLY public.model_batches
    ADD CONSTRAINT uq_model_batches_id UNIQUE (id);
ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT uq_subscriptions_id UNIQUE (id);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT uq_triggers_id UNIQUE (id);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT uq_triggers_name UNIQUE (owner, name);
CREATE INDEX ix_answers_expires_at ON public.answers USING btree (expires_at);
CREATE INDEX ix_audit_log_at ON public.audit_log USING btree (at);
CREATE INDEX ix_audit_log_changes ON public.audit_log USING btree (owner, seq) WHERE (status < 400);
CREATE INDEX ix_audit_log_refusals ON public.audit_log USING btree (key_id, seq) WHERE (status >= 400);
CREATE INDEX ix_batch_jobs_owner ON public.batch_jobs USING btree (owner, seq);
CREATE INDEX ix_bundles_owner_name_seq ON public.bundles USING btree (owner, name, seq);
CREATE INDEX ix_deliveries_due ON public.deliveries USING btree (owner, receiver, next_at) WHERE (status = 'PENDING'::text);
CREATE INDEX ix_docker_image_bundles_name ON public.docker_image_bundles USING btree (owner, name, seq);
CREATE INDEX ix_docker_image_jobs_owner ON public.docker_image_jobs USING btree (owner, seq);
CREATE INDEX ix_endpoint_events_endpoint ON public.endpoint_events USING btree (endpoint_id, seq);
CREATE INDEX ix_files_owner ON public.files USING btree (owner, seq);
CREATE INDEX ix_metric_points_at ON public.metric_points USING btree (step, at);
CREATE INDEX ix_model_batches_owner ON public.model_batches USING btree (owner, seq);
CREATE INDEX ix_queue_claim ON public.queue USING btree (endpoint_id, owner, priority DESC, seq, expires_at) WHERE (lease_owner IS NULL);
CREATE INDEX ix_queue_expiry ON public.queue USING btree (expires_at) WHERE (lease_owner IS NULL);
CREATE INDEX ix_queue_leases ON public.queue USING btree (lease_owner) WHERE (lease_owner IS NOT NULL);
CREATE INDEX ix_subscriptions_owner ON public.subscriptions USING btree (owner, seq);
CREATE INDEX ix_task_inputs_endpoint ON public.task_inputs USING btree (endpoint_id, owner, seq);
CREATE INDEX ix_task_inputs_owner ON public.task_inputs USING btree (owner, seq);
CREATE INDEX ix_task_results_failed ON public.task_results USING btree (failed_of, seq) WHERE (failed_of IS NOT NULL);
CREATE INDEX ix_task_results_finished ON public.task_results USING btree (finished_at, seq);
CREATE INDEX ix_token_usage_day ON public.token_usage USING btree (day);
CREATE UNIQUE INDEX uq_endpoints_owner_name ON public.endpoints USING btree (owner, name);
CREATE UNIQUE INDEX uq_task_inputs_idempotency ON public.task_inputs USING btree (owner, idempotency_key) WHERE (idempotency_key IS NOT NULL);
ALTER TABLE ONLY public.batch_jobs
    ADD CONSTRAINT fk_batch_jobs_bundle_id FOREIGN KEY (bundle_id) REFERENCES public.bundles(id);
ALTER TABLE ONLY public.docker_image_jobs
    ADD CONSTRAINT fk_docker_image_jobs_bundle_id FOREIGN KEY (bundle_id) REFERENCES public.docker_image_bundles(id);
ALTER TABLE ONLY public.endpoints
    ADD CONSTRAINT fk_endpoints_bundle_id FOREIGN KEY (bundle_id) REFERENCES public.bundles(id);
ALTER TABLE ONLY public.endpoints
    ADD CONSTRAINT fk_endpoints_ready_bundle_id FOREIGN KEY (ready_bundle_id) REFERENCES public.bundles(id);
ALTER TABLE ONLY public.key_usage
    ADD CONSTRAINT fk_key_usage_key_id FOREIGN KEY (key_id) REFERENCES public.api_keys(id);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT fk_triggers_bundle_id FOREIGN KEY (bundle_id) REFERENCES public.docker_image_bundles(id);
