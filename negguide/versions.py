"""What the versions of diffusers and transformers that we support call differently."""

from __future__ import annotations

from types import ModuleType

DTYPE_SINCE = {"diffusers": (0, 42), "transformers": (4, 56)}
"""Library -> the version from which on its `from_pretrained` takes `dtype`; before, the argument was `torch_dtype`."""


def dtype_argument(library: ModuleType, dtype: object) -> dict[str, object]:
    """The dtype as an argument of a library's `from_pretrained`.

    Args:
        library: the module `diffusers` or `transformers`.
        dtype: a torch dtype.
    """
    version = tuple(int(part) for part in library.__version__.split(".")[:2])
    return {"dtype" if version >= DTYPE_SINCE[library.__name__] else "torch_dtype": dtype}
