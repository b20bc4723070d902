"""Bundles as answers have them, under the names of Launch's module of this name."""

from openlaunch.client.models import ModelBundle
from openlaunch.wire.bundles import (
    CloudpickleArtifactFlavor,
    CustomFramework,
    PytorchFramework,
    RunnableImageFlavor,
    StreamingEnhancedRunnableImageFlavor,
    TensorflowFramework,
    TritonEnhancedRunnableImageFlavor,
    ZipArtifactFlavor,
)
from openlaunch.wire.bundles import CreateModelBundleResponse as CreateModelBundleV2Response
from openlaunch.wire.bundles import Flavor as ModelBundleFlavors
from openlaunch.wire.bundles import ListModelBundlesResponse as ListModelBundlesV2Response
from openlaunch.wire.bundles import ModelBundleResponse as ModelBundleV2Response
from openlaunch.wire.bundles_v1 import FrameworkType as ModelBundleFrameworkType

__all__ = [
    "CloudpickleArtifactFlavor",
    "CreateModelBundleV2Response",
    "CustomFramework",
    "ListModelBundlesV2Response",
    "ModelBundle",
    "ModelBundleFlavors",
    "ModelBundleFrameworkType",
    "ModelBundleV2Response",
    "PytorchFramework",
    "RunnableImageFlavor",
    "StreamingEnhancedRunnableImageFlavor",
    "TensorflowFramework",
    "TritonEnhancedRunnableImageFlavor",
    "ZipArtifactFlavor",
]
