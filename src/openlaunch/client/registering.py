"""What Launch's client offers to those who run Launch themselves: functions of their own for uploads."""

import warnings
from collections.abc import Callable
from typing import Any

_WHY = "the server takes uploads itself: what was registered is not called, and this line can be deleted"


class RegistersUploads:
    """Methods for programs written for Launch. Uploads go to the server, which keeps them where it is set to."""

    def register_upload_bundle_fn(self, upload_bundle_fn: Callable[[str, str], None]) -> None:
        """Warn that the server takes bundles itself, and that the function is not called."""
        warnings.warn(_WHY, DeprecationWarning, stacklevel=2)

    def register_upload_batch_csv_fn(self, upload_batch_csv_fn: Callable[[str, str], None]) -> None:
        """Warn that the server takes inputs of batch jobs itself, and that the function is not called."""
        warnings.warn(_WHY, DeprecationWarning, stacklevel=2)

    def register_bundle_location_fn(self, bundle_location_fn: Callable[[], str]) -> None:
        """Warn that the server decides where bundles go, and that the function is not called."""
        warnings.warn(_WHY, DeprecationWarning, stacklevel=2)

    def register_batch_csv_location_fn(self, batch_csv_location_fn: Callable[[], str]) -> None:
        """Warn that the server decides where inputs of batch jobs go, and that the function is not called."""
        warnings.warn(_WHY, DeprecationWarning, stacklevel=2)

    def register_endpoint_auth_decorator(self, endpoint_auth_decorator_fn: Callable[[Any], Any]) -> None:
        """Warn that a request carries the API key only, and that the decorator is not called."""
        warnings.warn(_WHY, DeprecationWarning, stacklevel=2)
