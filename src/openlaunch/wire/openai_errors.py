"""Errors as clients of OpenAI's API read them."""

from typing import Any

from openlaunch.errors import APIError, ServerError, TooManyRequests, Unauthorized


def error_document(error: APIError, request_id: str) -> dict[str, Any]:
    """Return an error as OpenAI's clients read it; the rest is for those of Launch and our own."""
    return {"error": described(error), "detail": error.message, "code": error.code, "request_id": request_id}


def described(error: APIError) -> dict[str, Any]:
    """Return what OpenAI's clients read of an error."""
    return {"message": error.message, "type": _type_of(error), "param": None, "code": error.code}


def _type_of(error: APIError) -> str:
    if error.status >= ServerError.status:
        return "server_error"
    if error.status == TooManyRequests.status:
        return "rate_limit_error"
    return "authentication_error" if error.status == Unauthorized.status else "invalid_request_error"
