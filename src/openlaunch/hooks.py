"""What may happen after a prediction, under the name of Launch's module of this name."""

from openlaunch.client.models import PostInferenceHooks

__all__ = ["PostInferenceHooks"]
