"""Makes files, images and arrays of parts of a request's body, of `data:` URLs, and of nested lists."""

import importlib
import typing
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from openlaunch_worker.dataframes import frame_of
from openlaunch_worker.failures import one_line
from openlaunch_worker.files import NPY, SCRATCH, DType, File, Shape, of_data_url
from openlaunch_worker.generics import unnamed
from openlaunch_worker.tensors import TENSOR, array_of, is_bf16

_MAGIC: Final = b"\x93NUMPY"

BF16: Final = "bfloat16"
"""What torch and ml_dtypes call a type that NumPy does not have."""

MAX_TEXT_BYTES: Final = 64 * 1024 * 1024
"""Limit on an array that is made of lists with text."""


class Misfit(Exception):
    """A value does not fit its annotation: what is wrong, and where in it."""

    def __init__(self, reason: str, *path: object) -> None:
        super().__init__(reason, *path)
        self.reason = reason
        self.path = path


def binary_maker(kind: Any) -> Callable[[Any], Any] | None:
    """Return what makes values of a type that is sent as bytes; None for another type."""
    metadata: tuple[Any, ...] = ()
    while typing.get_origin(kind := unnamed(kind)) is typing.Annotated:
        kind, *more = typing.get_args(kind)
        metadata += tuple(more)
    origin = typing.get_origin(kind) or kind
    match name_of(origin):
        case "bytes":
            return lambda value: file_of(value).read()
        case "file":
            return file_of
        case "path":
            return lambda value: SCRATCH.get().put(file_of(value))
        case "image":
            return _image
        case "table":
            return _table
        case "array" | "tensor" as name:
            dtype = next((each.name for each in metadata if isinstance(each, DType)), dtype_of(kind))
            shape = next((each.lengths for each in metadata if isinstance(each, Shape)), None)
            return Arrays(dtype, shape, as_tensor=name == "tensor").make
    return None


def name_of(kind: Any) -> str | None:
    """Return what a class of things that are sent as bytes is called here; None for another class."""
    if kind is bytes:
        return "bytes"
    if kind is File:
        return "file"
    if kind is Path:
        return "path"
    place = getattr(kind, "__module__", ""), getattr(kind, "__qualname__", "")
    return _LIBRARIES.get(place)


_LIBRARIES: Final = {
    ("PIL.Image", "Image"): "image",
    ("numpy", "ndarray"): "array",
    ("torch", "Tensor"): "tensor",
    ("pandas", "DataFrame"): "table",
    ("pandas.core.frame", "DataFrame"): "table",  # before pandas 3
}


def dtype_of(kind: Any) -> str | None:
    """Return the type of values that `numpy.typing.NDArray` names."""
    inner = typing.get_args(unnamed(kind))
    of_dtype = typing.get_args(inner[1]) if len(inner) == 2 else ()
    return getattr(of_dtype[0], "__name__", None) if of_dtype and isinstance(of_dtype[0], type) else None


def file_of(value: Any) -> File:
    """Return what was sent as a file. Raise `Misfit` if it was not."""
    if isinstance(value, File):
        return value
    if not isinstance(value, str):
        raise Misfit(f"a file is needed, and a value of type {type(value).__name__} came")
    try:
        return of_data_url(value)
    except ValueError as error:
        given = f"text of {len(value)} characters"
        raise Misfit(
            f"a file is needed: a data: URL, or for a parameter that is a file or a list of files also an https:// "
            f"URL or the id of an uploaded file; {given} came: {error}"
        ) from None


def _came(file: File) -> str:
    return f"{len(file.read())} bytes of {file.media_type} came"


def _image(value: Any) -> Any:
    file = file_of(value)
    try:
        library = importlib.import_module("PIL.Image")
        image = library.open(BytesIO(file.read()))
        _check_image(library, image)
        image.load()
    except Exception as error:
        text = one_line(error).partition(" <")[0]  # the error names an object in memory
        raise Misfit(f"an image is needed, and {_came(file)}: {text}") from None
    return image


def _table(value: Any) -> Any:
    try:
        return frame_of(value if isinstance(value, list | dict) else file_of(value))
    except (MemoryError, Misfit):
        raise
    except Exception as error:
        raise Misfit(f"a table is needed: {one_line(error)}") from None


def _check_image(library: Any, image: Any) -> None:
    """Raise ValueError if to load an image takes too much memory, or another program."""
    most, (width, height) = library.MAX_IMAGE_PIXELS, image.size
    if most is not None and width * height > most:
        limit = f"PIL.Image.MAX_IMAGE_PIXELS, which load_model_fn can set, is {most}"
        raise ValueError(f"it has {width} x {height} pixels, and {limit}")
    if not library.MIME.get(image.format, "").startswith("image/"):  # Ghostscript would run what is in an EPS
        raise ValueError(f"it is {image.format}, which is not a type of images")


class Arrays:
    """Makes arrays of one type of values and one shape, where those are given."""

    def __init__(
        self, dtype: str | None, shape: tuple[int | None, ...] | None, *, as_tensor: bool = False
    ) -> None:
        self._dtype = dtype
        self._shape = shape
        self._as_tensor = as_tensor

    def make(self, value: Any) -> Any:
        """Return the array in a file, or in nested lists. Raise `Misfit` if it is not an array, or another one."""
        numpy = importlib.import_module("numpy")
        try:
            in_json = isinstance(value, list | int | float)
            array = self._of_lists(numpy, value) if in_json else self._of_file(numpy, file_of(value))
        except MemoryError:
            raise
        except Exception as error:
            reason = error.reason if isinstance(error, Misfit) else one_line(error)
            raise Misfit(f"{self._needed()} is needed: {reason}") from None
        is_bits = self._as_tensor and is_bf16(value)
        if not self._has_dtype(numpy, array, is_bits=is_bits) or not self._has_shape(array):
            came = BF16 if is_bits else array.dtype
            raise Misfit(f"{self._needed()} is needed, and one of {came} and shape {array.shape} came")
        if not self._as_tensor:
            return array
        torch = importlib.import_module("torch")
        tensor = torch.from_numpy(array)
        return tensor.view(torch.bfloat16) if is_bits else tensor

    def _needed(self) -> str:
        of = "" if self._dtype is None else f" of {self._dtype}"
        lengths = (
            "" if self._shape is None else ", ".join("any" if n is None else str(n) for n in self._shape)
        )
        return f"an array{of}" + ("" if self._shape is None else f" with the shape ({lengths})")

    def _of_lists(self, numpy: Any, value: Any) -> Any:
        _check_text(numpy, value)
        array = numpy.asarray(value)
        if self._dtype is None or (
            array.dtype.kind == "f" and numpy.dtype(self._dtype).kind in "iub" and array.size
        ):
            return array
        return numpy.asarray(value, self._dtype)

    def _of_file(self, numpy: Any, file: File) -> Any:
        if file.media_type.startswith(TENSOR):
            return array_of(numpy, file, bf16_as_bits=self._as_tensor)
        data = file.read()
        if data.startswith(_MAGIC):
            return _of_npy(numpy, data)
        if self._dtype is None:
            raise ValueError(f"{_came(file)}, and not {NPY} or nested lists")
        lengths = () if self._shape is None else tuple(-1 if n is None else n for n in self._shape)
        return numpy.frombuffer(data, self._dtype).copy().reshape(lengths or (-1,))

    def _has_dtype(self, numpy: Any, array: Any, *, is_bits: bool) -> bool:
        if self._dtype is None or is_bits:
            return self._dtype in (None, BF16)
        try:
            return bool(array.dtype == numpy.dtype(self._dtype))
        except TypeError:  # it is another library's, which was not imported
            return False

    def _has_shape(self, array: Any) -> bool:
        shape = self._shape
        return shape is None or (
            len(shape) == array.ndim
            and all(n in (None, length) for n, length in zip(shape, array.shape, strict=True))
        )


def _check_text(numpy: Any, value: Any) -> None:
    """Raise ValueError if lists have text of which NumPy makes too much: each takes as much as the longest."""
    if longest := _longest_text(value):
        size = 4 * longest * numpy.asarray(value, object).size
        if size > MAX_TEXT_BYTES:
            raise ValueError(f"its texts would take {size} bytes, the limit is {MAX_TEXT_BYTES}")


def _longest_text(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    # Rows of numbers, which most are, take one step each.
    if not isinstance(value, list) or {int, float, bool}.issuperset(map(type, value)):
        return 0
    return max(map(_longest_text, value), default=0)


def _of_npy(numpy: Any, data: bytes) -> Any:
    # Not by numpy.load, which makes an array of the size that the head says before it looks whether that is there.
    file, form = BytesIO(data), numpy.lib.format
    readers = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    version = form.read_magic(file)
    if version not in readers:
        raise ValueError(f"the version of its format is {version}: 1.0 and 2.0 are read")
    shape, is_fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("it holds objects of Python, which are not read")
    values = numpy.frombuffer(data, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C").copy(order="K")
