"""Sorted lists of image files in folders, without opening files, and only inside the root of the data set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from selfcon.errors import ConfigError

SUFFIXES = (".jpg", ".jpeg", ".png")  # also in capitals

KEY = "data.root"


@dataclass(frozen=True)
class ImageFiles:
    """Image files of a data set: their names under `root`, with forward slashes, and their sizes in bytes."""

    root: Path
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, number: int) -> Path:
        """Return the path of an image."""
        return self.root / self.names[number]

    def add_folder(self, folder: Path) -> range:
        """Add the images of a folder, sorted by name, and return their indices.

        All other files in the folder must be hidden. Raises `ConfigError` for a folder without images, or
        with other files.
        """
        found = sorted((entry.name, entry) for entry in entries(folder, root=self.root))
        for name, entry in found:
            if not (name.lower().endswith(SUFFIXES) and entry.is_file()):
                got = f"the {'file' if entry.is_file() else 'folder'} {name}"
                raise ConfigError(KEY, f"only images ({', '.join(SUFFIXES)}) in {folder}", got)
        if not found:
            raise ConfigError(KEY, f"images ({', '.join(SUFFIXES)}) of each class", f"none in {folder}")
        first, prefix = len(self), folder.relative_to(self.root).as_posix()
        with _os_errors_as_config_errors("folders", folder):
            self.sizes.extend(entry.stat().st_size for _, entry in found)
        self.names.extend(f"{prefix}/{name}" for name, _ in found)
        return range(first, len(self))


def class_folders(folder: Path, *, root: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted. Raises `ConfigError` for fewer than two."""
    names = folders_in(folder, root=root)
    if len(names) < 2:
        got = f"only {names[0]}" if names else "none"
        raise ConfigError(KEY, f"a folder for each of two classes or more in {folder}", got)
    return names


def folders_in(folder: Path, *, root: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted."""
    return sorted(entry.name for entry in entries(folder, root=root) if entry.is_dir())


def entries(folder: Path, *, root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder that are not hidden, unordered.

    Raises `ConfigError` if the folder cannot be listed or is outside of `root`, and for a link that leaves
    `root` or is broken.
    """
    with _os_errors_as_config_errors("folders", folder), os.scandir(folder) as found:
        check_inside(folder, root=root)
        for entry in found:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                check_inside(Path(entry.path), root=root)
            yield entry


def read_content(path: Path, *, root: Path, where: str) -> bytes:
    """Return the content of a file; `where` is its expected location in messages.

    Raises `ConfigError` if it is missing, cannot be read, or is outside of `root`.
    """
    with _os_errors_as_config_errors("files", path):
        if path.is_file():
            check_inside(path, root=root)
            return path.read_bytes()
    raise ConfigError(KEY, f"{path.name} {where}", f"no {path}")


def check_inside(path: Path, *, root: Path) -> None:
    """Raise `ConfigError` for a link that leaves `root` or is broken."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a RuntimeError is a cycle of links
        raise ConfigError(KEY, "links to existing files or folders", f"{path}: a broken link") from error
    if not target.is_relative_to(root.resolve()):
        raise ConfigError(KEY, f"links that stay in {root}", f"{path}, a link to {target}")


@contextmanager
def _os_errors_as_config_errors(kind: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(KEY, f"{kind} that can be read", f"{path}: {reason}") from error
