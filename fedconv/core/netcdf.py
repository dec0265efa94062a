"""Labelled data as netCDF files: written whole or not at all, and read back."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.files import checksum, number_bytes
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


CHECKSUM = "checksum"
"""The attribute that holds the content's checksum; :func:`load` takes it away again."""


def save(data: xr.Dataset, path: Path) -> None:
    """Write the file, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    data = data.assign_attrs({CHECKSUM: content(data)})
    try:
        data.to_netcdf(draft, engine="scipy")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: Path, about: str) -> xr.Dataset:
    """The data of a file. Raises InputError, with what the data are ``about``, where it is not whole or not netCDF, or
    where its content is not what was written, by its checksum. One from before checksums is read, and said."""
    import xarray as xr

    try:
        with xr.open_dataset(path, engine="scipy") as found:
            data = found.load()
        known = data.attrs.pop(CHECKSUM, None)
        same = known is None or known == content(data)
    except Exception as error:  # whatever the reader of a broken file stumbles on
        raise InputError(f"{path} cannot be read as data of {about} ({type(error).__name__})") from error
    if not same:
        raise InputError(f"{path} cannot be read as data of {about}: by its checksum it is not what was written")
    if known is None:
        print(f"{path} was written before files kept checksums: it cannot be verified", file=sys.stderr)
    return data


def content(data: xr.Dataset) -> str:
    """A checksum of all variables and attributes, the same before and after they were in a file: netCDF keeps neither
    the width of integers nor the difference of a number and an array of one."""
    parts: list[bytes] = [json.dumps(_plain(data.attrs), sort_keys=True).encode()]
    for key in sorted(map(str, data.variables)):
        variable = data[key]
        values = variable.values
        parts.append(json.dumps([key, variable.dims, values.shape, _plain(variable.attrs)], sort_keys=True).encode())
        if values.dtype.kind in "biuf":
            parts.append(number_bytes(values.astype(np.float64)))
        else:
            parts.append(json.dumps([str(x) for x in values.ravel()]).encode())
    return checksum(*parts)


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(k): x if isinstance(x, str) else [y if isinstance(y, str) else float(y) for y in np.atleast_1d(x).tolist()]
        for k, x in attrs.items()
        if k != CHECKSUM
    }
