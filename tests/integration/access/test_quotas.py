"""Quotas of owners: what goes over one is refused with its numbers, and leaves nothing behind."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from server_driver import args, eventually, http, problem, running

from openlaunch import LaunchClient
from openlaunch.errors import Forbidden, NotFound, TooManyRequests, Unprocessable

IDLE = {"cpus": 0.5, "memory": "64Mi", "min_workers": 0, "max_workers": 1}
"""An endpoint that has no worker while nobody calls it."""


@pytest.fixture(scope="module")
def admin():
    with running(quota_workers=100) as client:
        yield client


@pytest.fixture
def owner(admin, request):
    """A client of an owner of this test's own, and a bundle."""
    name = request.node.name.partition("[")[0].removeprefix("test_")[:60]
    key = admin.create_api_key(name).api_key
    with LaunchClient(key, admin.server.url, max_retries=0) as client:
        client.create_model_bundle_from_callable_v2(
            model_bundle_name="bundle", load_model_fn=lambda: None, load_predict_fn=lambda model: len
        )
        client.name, client.key = name, key
        yield client


def create(client, name, **settings):
    return client.create_model_endpoint(endpoint_name=name, model_bundle="bundle", **{**IDLE, **settings})


def refused(call, *texts):
    with pytest.raises(Forbidden) as caught:
        call()
    assert caught.value.code == "quota_exceeded"
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("quota", "settings", "numbers"),
    [
        ({"endpoints": 1}, {}, "2 endpoints, and 1 are allowed"),
        ({"workers": 3}, {"max_workers": 3}, "4 workers (the sum of max_workers), and 3 are allowed"),
        ({"cpus": 1}, {"cpus": "600m"}, "1.1 cpus in all workers, and 1 are allowed"),
        (
            {"memory": "100Mi"},
            {},
            "134,217,728 bytes of memory in all workers, and 104,857,600 bytes are allowed",
        ),
    ],
)
def test_an_endpoint_too_many(admin, owner, quota, settings, numbers):
    admin.set_quotas(owner.name, endpoints="default", workers="default", cpus="default", memory="default")
    for left in owner.list_model_endpoints():
        owner.delete_model_endpoint(left)
    first = create(owner, f"first-{next(iter(quota))}")
    admin.set_quotas(owner.name, **quota)
    refused(lambda: create(owner, "second", **settings), f"the owner {owner.name!r} would have", numbers)
    assert "second" not in [endpoint.name for endpoint in owner.list_model_endpoints()]
    admin.set_quotas(owner.name, **dict.fromkeys(quota, "unlimited"))
    owner.delete_model_endpoint(create(owner, "second", **settings))
    owner.delete_model_endpoint(first)


def test_of_two_at_once_one_gets_the_last_place(admin, owner):
    admin.set_quotas(owner.name, endpoints=3)

    def attempt(number):
        try:
            return create(owner, f"n{number}").name
        except Forbidden:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [name for name in pool.map(attempt, range(8)) if name]
    assert len(made) == 3
    assert sorted(endpoint.name for endpoint in owner.list_model_endpoints()) == sorted(made)


def test_what_is_more_than_a_lowered_quota_stays_and_may_only_shrink(admin, owner):
    endpoint = create(owner, "large", max_workers=4)
    admin.set_quotas(owner.name, workers=2)
    assert endpoint.refresh().model_endpoint.deployment_state.max_workers == 4
    assert owner.edit_model_endpoint(model_endpoint="large", timeout_seconds=5)
    refused(
        lambda: owner.edit_model_endpoint(model_endpoint="large", max_workers=5), "5 workers", "2 are allowed"
    )
    assert owner.edit_model_endpoint(model_endpoint="large", max_workers=3)
    refused(
        lambda: owner.edit_model_endpoint(model_endpoint="large", max_workers=4), "4 workers", "2 are allowed"
    )
    owner.restart_model_endpoint("large")
    refused(lambda: create(owner, "other"), "4 workers", "2 are allowed")
    owner.delete_model_endpoint("large")
    create(owner, "other", max_workers=2)


def test_jobs_count_while_they_have_not_ended(admin, owner):
    admin.set_quotas(owner.name, workers=3)
    create(owner, "one", max_workers=1)
    inputs = {"model_bundle": "bundle", "inputs": [{"obj": [1]}], "cpus": 0.1, "memory": "64Mi"}
    refused(lambda: owner.batch_async_request(max_workers=3, **inputs), "4 workers", "3 are allowed")
    assert owner.list_batch_jobs() == []
    job = owner.batch_async_request(max_workers=2, **inputs)["job_id"]
    owner.wait_for_batch_job(job, 60, show_progress=False)
    create(owner, "two", max_workers=2)
    image = {"image_repository": "none/none", "image_tag": "1", "command": ["true"]}
    bundle = owner.create_docker_image_batch_job_bundle(name="image", **image, cpus="0.1", memory="64Mi")
    refused(
        lambda: owner.create_docker_image_batch_job(
            labels={}, docker_image_batch_job_bundle=bundle["docker_image_batch_job_bundle_id"]
        ),
        "4 workers",
    )
    assert owner.list_docker_image_batch_jobs() == []


def test_tasks_that_wait_are_the_callers(admin, owner):
    """Of all endpoints together, also of those that are another owner's; a bulk is taken whole or not at all."""
    mine = create(owner, "mine", endpoint_type="async", max_workers=0)
    admin.create_model_bundle_from_callable_v2(
        model_bundle_name="bundle", load_model_fn=lambda: None, load_predict_fn=lambda model: len
    )
    create(admin, "everybodys", endpoint_type="async", max_workers=0, public_inference=True)
    others = owner.get_model_endpoint("admin/everybodys")
    admin.set_quotas(owner.name, queued_tasks=3)
    tasks = [mine.predict(args(obj=[])), others.predict(args(obj=[]))]
    for too_many in (
        lambda: mine.predict_many([args(obj=[])] * 2),
        lambda: others.predict_many([args(obj=[])] * 2),
    ):
        with pytest.raises(
            TooManyRequests, match=r"2 tasks of the owner .* 2 more would be 4, and 3 are allowed"
        ) as caught:
            too_many()
        assert (caught.value.code, caught.value.retry_after >= 1) == ("quota_exceeded", True)
    tasks.append(others.predict(args(obj=[])))
    with pytest.raises(TooManyRequests):
        mine.predict(args(obj=[]))
    assert len(owner.list_tasks().tasks) == 3
    (row,) = owner.list_quotas()
    assert (row.used.queued_tasks, row.allowed.queued_tasks) == (3, 3)
    assert tasks[0].cancel()
    # The count of tasks that wait follows what is cancelled within seconds.
    eventually(lambda: owner.list_quotas()[0].used.queued_tasks == 2)
    mine.predict(args(obj=[]))
    admin.get_model_endpoint("everybodys").predict(args(obj=[]))


def test_uploads_are_counted_while_they_come(admin, owner):
    (row,) = owner.list_quotas()
    before = row.used.stored_bytes
    assert before > 0  # the bundle
    admin.set_quotas(owner.name, stored_bytes=before + 2_000_000)
    with http(admin, owner.key) as raw:
        where = raw.post("/v1/hosted_inference/model_bundle_upload", json={}).json()

        def put(content):
            return raw.put(where["signedUrl"], content=content, auth=None)

        def pieces():
            for _ in range(11):
                yield bytes(200_000)

        over = problem(put(bytes(2_000_001)), 403)
        assert over["code"] == "quota_exceeded"
        assert (
            f"{before + 2_000_001:,} bytes stored, and {before + 2_000_000:,} bytes are allowed"
            in over["detail"]
        )
        assert put(pieces()).status_code == 403
        assert raw.post("/v1/files", files={"file": ("a", bytes(2_000_001))}).status_code == 403
        assert raw.get("/v1/files").json()["files"] == []
        assert owner.list_quotas()[0].used.stored_bytes == before
        file_id = raw.post("/v1/files", files={"file": ("a", bytes(1_200_000))}).json()["id"]
        assert owner.list_quotas()[0].used.stored_bytes == before + 1_200_000
        assert put(bytes(1_200_000)).status_code == 403
        assert raw.delete(f"/v1/files/{file_id}").status_code == 200
        assert put(bytes(1_200_000)).status_code == 200
        with ThreadPoolExecutor(4) as pool:
            sent = [
                pool.submit(raw.post, "/v1/files", files={"file": ("a", bytes(600_000))}) for _ in range(4)
            ]
            assert sorted(each.result().status_code for each in sent) == [200, 403, 403, 403]
    assert owner.list_quotas()[0].used.stored_bytes == before + 1_800_000


def test_admins_see_all_and_owners_their_own(admin, owner):
    create(owner, "seen", max_workers=2)
    mine = owner.list_quotas()
    assert mine == admin.list_quotas(owner=owner.name)
    assert [row.owner for row in mine] == [owner.name]
    assert (mine[0].used.endpoints, mine[0].used.workers, mine[0].used.cpus) == (1, 2, 1.0)
    assert (mine[0].allowed.workers, mine[0].allowed.endpoints) == (100, None)
    assert mine[0] in admin.list_quotas()
    assert {row.owner for row in admin.list_quotas()} >= {owner.name, "admin"}
    changed = admin.set_quotas(owner.name, workers="unlimited", memory="1.5Gi", gpus=0)
    assert (changed.allowed.workers, changed.allowed.memory, changed.allowed.gpus) == (None, 3 * 2**29, 0)
    assert admin.set_quotas(owner.name, workers="default", gpus="default").allowed.workers == 100
    (entry, *_) = admin.list_audit_log(action="set_quotas").entries
    assert (entry.object_id, entry.summary) == (owner.name, {"workers": "default", "gpus": "default"})
    with pytest.raises(Forbidden, match="yours has the role user"):
        owner.set_quotas(owner.name, workers=1000)
    with pytest.raises(NotFound, match="there is no owner 'nobody'"):
        admin.set_quotas("nobody", workers=1)
    with pytest.raises(Unprocessable, match="nothing to change: give one of endpoints, workers"):
        admin.set_quotas(owner.name)
    for name, wrong in (("workers", "-1"), ("workers", "many"), ("workers", True), ("memory", 64)):
        with pytest.raises(Unprocessable, match=name):
            admin.set_quotas(owner.name, **{name: wrong})


def test_a_deployment_that_is_refused_leaves_no_bundle(admin, owner):
    admin.set_quotas(owner.name, workers=1)
    refused(lambda: owner.deploy(len, name="too-much", wait=False, **{**IDLE, "max_workers": 2}), "2 workers")
    assert owner.list_model_bundles_v2("too-much").model_bundles == []
    assert owner.list_model_endpoints() == []
    owner.deploy(len, name="fits", wait=False, **IDLE)
    refused(lambda: owner.deploy(sum, name="fits", wait=False, **{**IDLE, "max_workers": 2}), "2 workers")
    assert len(owner.list_model_bundles_v2("fits").model_bundles) == 1
