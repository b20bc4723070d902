"""Uploaded files on the wire (`/v1/files`)."""

from pydantic import BaseModel


class UploadFileResponse(BaseModel):
    """The id of the file that was stored."""

    id: str


class FileResponse(BaseModel):
    """One file; `size` is in bytes."""

    id: str
    filename: str
    size: int
    owner: str | None = None


class ListFilesResponse(BaseModel):
    """GET /v1/files, newest first."""

    files: list[FileResponse]


class FileContentResponse(BaseModel):
    """GET /v1/files/{id}/content, of a file that is UTF-8 text."""

    id: str
    content: str


class DeleteFileResponse(BaseModel):
    """The answer to deleting a file."""

    deleted: bool
