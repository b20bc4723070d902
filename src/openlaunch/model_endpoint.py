"""Endpoints and their predictions, under the names of Launch's module of this name."""

from openlaunch.client.endpoints import AsyncEndpoint, Endpoint, StreamingEndpoint, SyncEndpoint
from openlaunch.client.models import ModelEndpoint
from openlaunch.client.predictions import EndpointRequest
from openlaunch.client.responses import (
    AsyncEndpointBatchResponse,
    EndpointResponse,
    EndpointResponseFuture,
    EndpointResponseStream,
)

__all__ = [
    "AsyncEndpoint",
    "AsyncEndpointBatchResponse",
    "Endpoint",
    "EndpointRequest",
    "EndpointResponse",
    "EndpointResponseFuture",
    "EndpointResponseStream",
    "ModelEndpoint",
    "StreamingEndpoint",
    "SyncEndpoint",
]
