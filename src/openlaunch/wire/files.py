"""Uploaded files on the wire (`/v1/files`): what clients of Launch read, and what those of OpenAI's API read."""

from typing import Literal

from pydantic import BaseModel


class FileResponse(BaseModel):
    """One file; `size` and `bytes` are the same."""

    id: str
    filename: str
    size: int
    owner: str | None = None
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    purpose: str | None = None
    status: Literal["processed"] = "processed"


class ListFilesResponse(BaseModel):
    """GET /v1/files, newest first; `files` and `data` are the same."""

    object: Literal["list"] = "list"
    files: list[FileResponse]
    data: list[FileResponse]
    has_more: bool


class FileContentResponse(BaseModel):
    """GET /v1/files/{id}/content, of a file that is UTF-8 text."""

    id: str
    content: str


class DeleteFileResponse(BaseModel):
    """The answer to deleting a file."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool
