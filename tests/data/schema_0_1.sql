-- A SQLite database of version 0.1, as that server made it, with a row in every table. Never changed once 0.1 is released.
CREATE TABLE answers (
  owner TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  digest BLOB NOT NULL,
  expires_at DOUBLE NOT NULL,
  body_key TEXT,
  body BLOB,
  server TEXT,
  CONSTRAINT pk_answers PRIMARY KEY (owner, idempotency_key)
);
CREATE INDEX ix_answers_expires_at ON answers (expires_at);
CREATE TABLE api_keys (
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  role TEXT NOT NULL,
  prefix TEXT NOT NULL,
  digest BLOB NOT NULL,
  created_at DOUBLE NOT NULL,
  revoked_at DOUBLE,
  expires_at DOUBLE,
  requests_per_second DOUBLE,
  burst INTEGER,
  requests_per_day INTEGER,
  tokens_per_minute BIGINT,
  tokens_per_day BIGINT,
  CONSTRAINT pk_api_keys PRIMARY KEY (id),
  CONSTRAINT uq_api_keys_digest UNIQUE (digest)
);
CREATE TABLE audit_log (
  seq INTEGER NOT NULL,
  at DOUBLE NOT NULL,
  key_id TEXT,
  owner TEXT,
  address TEXT,
  action TEXT NOT NULL,
  method TEXT NOT NULL,
  path TEXT NOT NULL,
  object_id TEXT,
  summary JSON NOT NULL,
  status SMALLINT NOT NULL,
  times INTEGER NOT NULL,
  object_owner TEXT,
  CONSTRAINT pk_audit_log PRIMARY KEY (seq)
);
CREATE INDEX ix_audit_log_at ON audit_log (at);
CREATE INDEX ix_audit_log_changes ON audit_log (owner, seq) WHERE status < 400;
CREATE INDEX ix_audit_log_refusals ON audit_log (key_id, seq) WHERE status >= 400;
CREATE TABLE bundles (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  flavor JSON NOT NULL,
  metadata JSON NOT NULL,
  schema_location TEXT,
  schemas JSON NOT NULL,
  created_at DOUBLE NOT NULL,
  version INTEGER NOT NULL,
  CONSTRAINT pk_bundles PRIMARY KEY (seq),
  CONSTRAINT uq_bundles_id UNIQUE (id)
);
CREATE INDEX ix_bundles_owner_name_seq ON bundles (owner, name, seq);
CREATE TABLE deliveries (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  task_id TEXT NOT NULL,
  endpoint_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  receiver TEXT NOT NULL,
  url TEXT NOT NULL,
  auth JSON,
  status TEXT NOT NULL,
  created_at DOUBLE NOT NULL,
  next_at DOUBLE,
  finished_at DOUBLE,
  failures SMALLINT NOT NULL,
  attempts JSON NOT NULL,
  progress BOOLEAN NOT NULL,
  body BLOB,
  CONSTRAINT pk_deliveries PRIMARY KEY (seq),
  CONSTRAINT uq_deliveries_id UNIQUE (id),
  CONSTRAINT uq_deliveries_task_id UNIQUE (task_id)
);
CREATE INDEX ix_deliveries_due ON deliveries (owner, receiver, next_at) WHERE status = 'PENDING';
CREATE TABLE docker_image_bundles (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  image_repository TEXT NOT NULL,
  image_tag TEXT NOT NULL,
  command JSON NOT NULL,
  env JSON NOT NULL,
  mount_location TEXT,
  resources JSON NOT NULL,
  public BOOLEAN NOT NULL,
  created_at DOUBLE NOT NULL,
  CONSTRAINT pk_docker_image_bundles PRIMARY KEY (seq),
  CONSTRAINT uq_docker_image_bundles_id UNIQUE (id)
);
CREATE INDEX ix_docker_image_bundles_name ON docker_image_bundles (owner, name, seq);
CREATE TABLE endpoint_events (
  seq INTEGER NOT NULL,
  endpoint_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  count INTEGER NOT NULL,
  first_at DOUBLE NOT NULL,
  last_at DOUBLE NOT NULL,
  CONSTRAINT pk_endpoint_events PRIMARY KEY (seq)
);
CREATE INDEX ix_endpoint_events_endpoint ON endpoint_events (endpoint_id, seq);
CREATE TABLE files (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  filename TEXT NOT NULL,
  size BIGINT NOT NULL,
  "key" TEXT NOT NULL,
  created_at DOUBLE NOT NULL,
  purpose TEXT,
  CONSTRAINT pk_files PRIMARY KEY (seq),
  CONSTRAINT uq_files_id UNIQUE (id)
);
CREATE INDEX ix_files_owner ON files (owner, seq);
CREATE TABLE subscriptions (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  url TEXT NOT NULL,
  events JSON NOT NULL,
  created_at DOUBLE NOT NULL,
  CONSTRAINT pk_subscriptions PRIMARY KEY (seq),
  CONSTRAINT uq_subscriptions_id UNIQUE (id)
);
CREATE INDEX ix_subscriptions_owner ON subscriptions (owner, seq);
CREATE TABLE tasks (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  endpoint_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  status TEXT NOT NULL,
  priority INTEGER NOT NULL,
  created_at DOUBLE NOT NULL,
  expires_at DOUBLE,
  started_at DOUBLE,
  finished_at DOUBLE,
  attempts SMALLINT NOT NULL,
  max_attempts SMALLINT NOT NULL,
  recoveries SMALLINT DEFAULT '0' NOT NULL,
  return_pickled BOOLEAN NOT NULL,
  timeout_seconds DOUBLE,
  lease_owner TEXT,
  lease_until DOUBLE,
  status_code SMALLINT,
  reason TEXT,
  idempotency_key TEXT,
  idempotency_digest BLOB,
  payload_key TEXT,
  result_key TEXT,
  payload BLOB,
  result BLOB,
  CONSTRAINT pk_tasks PRIMARY KEY (seq),
  CONSTRAINT uq_tasks_id UNIQUE (id)
);
CREATE INDEX ix_tasks_claim ON tasks (endpoint_id, owner, priority DESC, seq, expires_at, status) WHERE status = 'PENDING';
CREATE INDEX ix_tasks_endpoint ON tasks (endpoint_id, owner, seq);
CREATE INDEX ix_tasks_expiry ON tasks (expires_at) WHERE status = 'PENDING' AND expires_at IS NOT NULL;
CREATE INDEX ix_tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX ix_tasks_leases ON tasks (lease_owner) WHERE status = 'STARTED';
CREATE INDEX ix_tasks_owner ON tasks (owner, seq);
CREATE INDEX ix_tasks_unsuccessful ON tasks (owner, seq) WHERE status = 'FAILURE' OR status = 'CANCELLED';
CREATE UNIQUE INDEX uq_tasks_idempotency ON tasks (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE TABLE batch_jobs (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  bundle_id TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT,
  input_key TEXT NOT NULL,
  serialization_format TEXT NOT NULL,
  labels JSON NOT NULL,
  spec JSON NOT NULL,
  timeout_seconds DOUBLE NOT NULL,
  created_at DOUBLE NOT NULL,
  finished_at DOUBLE,
  total INTEGER,
  completed INTEGER,
  result_key TEXT,
  cleared BOOLEAN NOT NULL,
  CONSTRAINT pk_batch_jobs PRIMARY KEY (seq),
  CONSTRAINT uq_batch_jobs_id UNIQUE (id),
  CONSTRAINT fk_batch_jobs_bundle_id FOREIGN KEY(bundle_id) REFERENCES bundles (id)
);
CREATE INDEX ix_batch_jobs_owner ON batch_jobs (owner, seq);
CREATE TABLE docker_image_jobs (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  bundle_id TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT,
  job_config JSON,
  labels JSON NOT NULL,
  spec JSON NOT NULL,
  max_runtime DOUBLE NOT NULL,
  override_max_runtime INTEGER,
  created_at DOUBLE NOT NULL,
  trigger_id TEXT,
  due_at DOUBLE,
  held TEXT NOT NULL,
  started_at DOUBLE,
  finished_at DOUBLE,
  CONSTRAINT pk_docker_image_jobs PRIMARY KEY (seq),
  CONSTRAINT uq_docker_image_jobs_due UNIQUE (trigger_id, due_at),
  CONSTRAINT uq_docker_image_jobs_id UNIQUE (id),
  CONSTRAINT fk_docker_image_jobs_bundle_id FOREIGN KEY(bundle_id) REFERENCES docker_image_bundles (id)
);
CREATE INDEX ix_docker_image_jobs_owner ON docker_image_jobs (owner, seq);
CREATE TABLE endpoints (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  endpoint_type TEXT NOT NULL,
  bundle_id TEXT NOT NULL,
  generation INTEGER NOT NULL,
  spec JSON NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT,
  created_at DOUBLE NOT NULL,
  updated_at DOUBLE NOT NULL,
  ready_generation INTEGER,
  ready_bundle_id TEXT,
  rejected_generation INTEGER,
  canary JSON,
  ready_spec JSON,
  CONSTRAINT pk_endpoints PRIMARY KEY (seq),
  CONSTRAINT uq_endpoints_id UNIQUE (id),
  CONSTRAINT fk_endpoints_bundle_id FOREIGN KEY(bundle_id) REFERENCES bundles (id),
  CONSTRAINT fk_endpoints_ready_bundle_id FOREIGN KEY(ready_bundle_id) REFERENCES bundles (id)
);
CREATE UNIQUE INDEX uq_endpoints_owner_name ON endpoints (owner, name);
CREATE TABLE key_usage (
  key_id TEXT NOT NULL,
  day INTEGER NOT NULL,
  requests BIGINT NOT NULL,
  CONSTRAINT pk_key_usage PRIMARY KEY (key_id),
  CONSTRAINT fk_key_usage_key_id FOREIGN KEY(key_id) REFERENCES api_keys (id)
);
CREATE TABLE metric_points (
  endpoint_id TEXT NOT NULL,
  step INTEGER NOT NULL,
  at DOUBLE NOT NULL,
  points BLOB NOT NULL,
  CONSTRAINT pk_metric_points PRIMARY KEY (endpoint_id, step, at)
);
CREATE INDEX ix_metric_points_at ON metric_points (step, at);
CREATE TABLE model_batches (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT,
  endpoint TEXT NOT NULL,
  input_file_id TEXT NOT NULL,
  input_key TEXT NOT NULL,
  completion_window TEXT NOT NULL,
  key_id TEXT NOT NULL,
  metadata JSON NOT NULL,
  created_at DOUBLE NOT NULL,
  expires_at DOUBLE NOT NULL,
  started_at DOUBLE,
  finished_at DOUBLE,
  total INTEGER,
  completed INTEGER,
  failed INTEGER,
  output_file_id TEXT,
  error_file_id TEXT,
  completions JSON,
  usage JSON,
  cleared BOOLEAN NOT NULL,
  CONSTRAINT pk_model_batches PRIMARY KEY (seq),
  CONSTRAINT uq_model_batches_id UNIQUE (id)
);
CREATE INDEX ix_model_batches_owner ON model_batches (owner, seq);
CREATE TABLE quotas (
  owner TEXT NOT NULL,
  limits JSON NOT NULL,
  CONSTRAINT pk_quotas PRIMARY KEY (owner)
);
CREATE TABLE secrets (
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  sealed BLOB NOT NULL,
  updated_at DOUBLE NOT NULL,
  CONSTRAINT pk_secrets PRIMARY KEY (owner, name)
);
CREATE TABLE task_notes (
  task_id TEXT NOT NULL,
  number BIGINT NOT NULL,
  progress BLOB,
  partial_number BIGINT,
  partial BLOB,
  CONSTRAINT pk_task_notes PRIMARY KEY (task_id)
);
CREATE TABLE token_usage (
  key_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  day INTEGER NOT NULL,
  tokens BIGINT NOT NULL,
  CONSTRAINT pk_token_usage PRIMARY KEY (key_id, owner, day)
);
CREATE INDEX ix_token_usage_day ON token_usage (day);
CREATE TABLE triggers (
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  cron_schedule TEXT NOT NULL,
  bundle_id TEXT,
  default_job_config JSON,
  default_job_metadata JSON,
  suspended BOOLEAN NOT NULL,
  next_at DOUBLE NOT NULL,
  created_at DOUBLE NOT NULL,
  endpoint_name TEXT,
  args JSON,
  last_at DOUBLE,
  last_task_id TEXT,
  last_error TEXT,
  CONSTRAINT pk_triggers PRIMARY KEY (seq),
  CONSTRAINT uq_triggers_name UNIQUE (owner, name),
  CONSTRAINT uq_triggers_id UNIQUE (id),
  CONSTRAINT fk_triggers_bundle_id FOREIGN KEY(bundle_id) REFERENCES docker_image_bundles (id)
);
CREATE TABLE alembic_version (
  version_num VARCHAR(32) NOT NULL,
  PRIMARY KEY (version_num)
);

INSERT INTO api_keys (id, owner, role, prefix, digest, created_at)
VALUES ('key-1', 'ada', 'user', 'ol_abcd', x'01', 1);
INSERT INTO key_usage (key_id, day, requests) VALUES ('key-1', 20000, 7);
INSERT INTO audit_log (seq, at, key_id, owner, action, method, path, summary, status, times)
VALUES (1, 2, 'key-1', 'ada', 'create_endpoint', 'POST', '/v1/model-endpoints', '{}', 200, 1);
INSERT INTO bundles (seq, id, owner, name, flavor, metadata, schemas, created_at, version)
VALUES (1, 'bun-1', 'ada', 'cat',
        '{"flavor": "cloudpickle_artifact", "load_predict_fn": "cats.predict", "load_model_fn": "cats.load", "requirements": ["pillow"], "framework": {"framework_type": "pytorch", "pytorch_image_tag": "2.0"}, "app_config": null, "location": "s3://openlaunch/bundles/616461/1", "python_version": "3.11"}',
        '{}', '{}', 3, 1);
INSERT INTO endpoints (seq, id, owner, name, endpoint_type, bundle_id, generation, spec, status, created_at,
                       updated_at, ready_generation, ready_bundle_id)
VALUES (1, 'end-1', 'ada', 'cats', 'async', 'bun-1', 1,
        '{"min_workers": 0, "max_workers": 1, "per_worker": 1, "cpus": 1.0, "memory": 536870912, "storage": 0, "gpus": 0, "labels": {"team": "vision"}, "nodes_per_worker": 1}',
        'READY', 4, 4, 1, 'bun-1');
INSERT INTO endpoint_events (seq, endpoint_id, kind, detail, count, first_at, last_at)
VALUES (1, 'end-1', 'created', 'with bundle bun-1', 1, 4, 4);
INSERT INTO tasks (seq, id, endpoint_id, owner, status, priority, created_at, expires_at, attempts, max_attempts,
                   return_pickled, timeout_seconds, payload)
VALUES (1, 'waits', 'end-1', 'ada', 'PENDING', 5, 5, 1000, 1, 3, 1, 2.5, x'7b7d');
INSERT INTO tasks (seq, id, endpoint_id, owner, status, priority, created_at, expires_at, finished_at, attempts,
                   max_attempts, return_pickled, status_code, result)
VALUES (2, 'done', 'end-1', 'ada', 'SUCCESS', 0, 5, 1000, 6, 1, 3, 0, 200, x'7b7d');
INSERT INTO deliveries (seq, id, task_id, endpoint_id, owner, receiver, url, status, created_at, next_at, failures,
                        attempts, progress)
VALUES (1, 'msg_done', 'done', 'end-1', 'ada', 'receiver.example', 'https://receiver.example/', 'PENDING', 5, 6, 0, '[]', 1);
INSERT INTO subscriptions (seq, id, owner, url, events, created_at)
VALUES (1, 'sub_1', 'ada', 'https://receiver.example/', '["endpoint_failed"]', 9);
INSERT INTO answers (owner, idempotency_key, digest, expires_at, body) VALUES ('ada', 'k', x'02', 1000, x'7b7d');
INSERT INTO files (seq, id, owner, filename, size, key, created_at)
VALUES (1, 'file-1', 'ada', 'cats.csv', 9, 'files/file-1', 7);
INSERT INTO model_batches (seq, id, owner, status, endpoint, input_file_id, input_key, completion_window, key_id, metadata,
                           created_at, expires_at, cleared)
VALUES (1, 'batch-1', 'ada', 'RUNNING', '/v1/completions', 'file-1', 'files/file-1', '24h', 'key-1', '{}', 7, 86407, 0);
INSERT INTO token_usage (key_id, owner, day, tokens) VALUES ('key-1', 'ada', 19, 1000);
INSERT INTO batch_jobs (seq, id, owner, bundle_id, status, input_key, serialization_format, labels, spec,
                        timeout_seconds, created_at, cleared)
VALUES (1, 'job-1', 'ada', 'bun-1', 'RUNNING', 'jobs/job-1', 'JSON', '{}',
        '{"min_workers": 0, "max_workers": 1, "per_worker": 1, "cpus": 1.0, "memory": 536870912, "storage": 0, "gpus": 0, "labels": {"team": "vision"}, "nodes_per_worker": 1}',
        60, 8, 0);
INSERT INTO docker_image_bundles (seq, id, owner, name, image_repository, image_tag, command, env, resources,
                                  public, created_at)
VALUES (1, 'img-1', 'ada', 'report', 'registry.example/report', '1', '["run"]', '{}', '{}', 0, 9);
INSERT INTO docker_image_jobs (seq, id, owner, bundle_id, status, labels, spec, max_runtime, created_at,
                               trigger_id, due_at, held)
VALUES (1, 'run-1', 'ada', 'img-1', 'PENDING', '{}',
        '{"min_workers": 0, "max_workers": 1, "per_worker": 1, "cpus": 1.0, "memory": 536870912, "storage": 0, "gpus": 0, "labels": {"team": "vision"}, "nodes_per_worker": 1}', 60, 10, 'trg-1', 11, '');
INSERT INTO metric_points (endpoint_id, step, at, points)
  VALUES ('end-1', 60, 1000.0, X'00');
INSERT INTO quotas (owner, limits) VALUES ('ada', '{"endpoints": 5}');
INSERT INTO secrets (owner, name, sealed, updated_at) VALUES ('ada', 'hf-token', X'00', 9);
INSERT INTO task_notes (task_id, number, progress) VALUES ('done', 5, X'7b7d');
INSERT INTO triggers (seq, id, owner, name, cron_schedule, bundle_id, suspended, next_at, created_at)
VALUES (1, 'trg-1', 'ada', 'nightly', '0 3 * * *', 'img-1', 0, 11, 10);
INSERT INTO alembic_version (version_num) VALUES ('0001');
