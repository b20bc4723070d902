"""Bundles as a test needs them: of the flavour that it is about, with the rest filled in."""

from typing import Any

from openlaunch.server import clock
from openlaunch.server.jobs.image_jobs import job_spec
from openlaunch.store.records import BundleRecord, ImageJobBundleRecord, ImageJobRecord
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.bundles import FLAVOR, Flavor

_ARTIFACT = {
    "requirements": [],
    "framework": {"framework_type": "pytorch", "pytorch_image_tag": "2.0"},
    "location": "s3://openlaunch/bundles/b",
}
_IMAGE = {"repository": "model", "tag": "1", "command": ["serve"], "protocol": "http"}
_FLAVORS: dict[str, dict[str, Any]] = {
    "cloudpickle_artifact": {**_ARTIFACT, "load_predict_fn": "f", "load_model_fn": "g"},
    "zip_artifact": {**_ARTIFACT, "load_predict_fn_module_path": "m.f", "load_model_fn_module_path": "m.g"},
    "command": {"command": ["serve"], "requirements": []},
    "runnable_image": _IMAGE,
    "streaming_enhanced_runnable_image": {**_IMAGE, "streaming_command": ["stream"]},
    "triton_enhanced_runnable_image": {
        **_IMAGE,
        "triton_model_repository": "models",
        "triton_num_cpu": 1,
        "triton_commit_tag": "24.01",
    },
}


def make_flavor(kind: str = "cloudpickle_artifact", **changes: object) -> Flavor:
    """Make a flavour."""
    return FLAVOR.validate_python({"flavor": kind, **_FLAVORS[kind], **changes})


def make_bundle(
    bundle_id: str, flavor: Flavor | None = None, schemas: dict[str, Any] | None = None
) -> BundleRecord:
    """Make a bundle of ada's."""
    return BundleRecord(bundle_id, "ada", bundle_id, flavor or make_flavor(), {}, None, schemas or {}, 0.0)


IMAGE_BUNDLE = ImageJobBundleRecord(
    id="dib_1",
    owner="ada",
    name="hello",
    image_repository="hello",
    image_tag="1",
    command=["hello"],
    env={},
    mount_location=None,
    resources={},
    public=False,
    created_at=0.0,
)


def image_job(**resources: object) -> ImageJobRecord:
    """Make a job of ada's, of `IMAGE_BUNDLE`."""
    return ImageJobRecord(
        id="imj_1",
        owner="ada",
        bundle_id="dib_1",
        status=BatchJobStatus.PENDING,
        status_reason=None,
        job_config=None,
        labels={},
        spec=job_spec(resources),
        max_runtime=60,
        override_max_runtime=None,
        created_at=clock.now(),
    )
