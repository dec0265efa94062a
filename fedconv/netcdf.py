"""Labelled data as netCDF files: written whole or not at all, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


def save(data: xr.Dataset, path: Path) -> None:
    """Write the file, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        data.to_netcdf(draft, engine="scipy")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: Path, about: str) -> xr.Dataset:
    """The data of a file. Raises InputError, with what the data are ``about``, where it is not whole or not netCDF."""
    import xarray as xr

    try:
        with xr.open_dataset(path, engine="scipy") as found:
            return found.load()
    except Exception as error:  # whatever the reader of a broken file stumbles on
        raise InputError(f"{path} cannot be read as data of {about} ({type(error).__name__})") from error
