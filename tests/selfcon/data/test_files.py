from pathlib import Path

import pytest

from selfcon.data.files import ImageFiles, check_inside, class_folders, entries, read_content
from selfcon.errors import ConfigError
from tests.selfcon.data.locked_files import locked


def touched(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(bytes(len(name)))
    return folder


def test_images_are_sorted_by_name(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path)
    assert files.add_folder(touched(tmp_path / "x" / "b", "2.png", "10.jpg", "a.JPEG")) == range(3)
    assert files.add_folder(touched(tmp_path / "x" / "a", "longer.png")) == range(3, 4)
    assert files.names == ["x/b/10.jpg", "x/b/2.png", "x/b/a.JPEG", "x/a/longer.png"]
    assert files.sizes == [6, 5, 6, 10]
    assert len(files) == 4
    assert files.path(1) == tmp_path / "x" / "b" / "2.png"


def test_hidden_folders_are_not_classes(tmp_path: Path) -> None:
    for name in ("b", "a", ".c", "B"):
        (tmp_path / name).mkdir()
    touched(tmp_path, "file")
    assert class_folders(tmp_path, root=tmp_path) == ["B", "a", "b"]


def test_names_that_are_not_utf8_are_supported(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / b"\xff.png".decode(errors="surrogateescape")).touch()
    files = ImageFiles(tmp_path)
    files.add_folder(tmp_path / "a")
    assert files.path(0).exists()


def test_paths_inside_the_root_are_accepted(tmp_path: Path) -> None:
    touched(tmp_path / "root" / "deep", "a.png")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root" / "deep" / ".." / "deep")
    (tmp_path / "other").symlink_to("root")
    check_inside(tmp_path / "other" / "link" / "a.png", root=tmp_path / "other")
    assert [entry.name for entry in entries(tmp_path / "root" / "link", root=tmp_path / "root")] == ["a.png"]


def test_sibling_folder_with_the_same_prefix_is_outside(tmp_path: Path) -> None:
    touched(tmp_path / "root2", "a.png")
    touched(tmp_path / "root")
    (tmp_path / "root" / "a.png").symlink_to(tmp_path / "root2" / "a.png")
    with pytest.raises(ConfigError, match=r"^data\.root: expected links that stay in .*/root, got .*root2/a"):
        check_inside(tmp_path / "root" / "a.png", root=tmp_path / "root")


def test_folder_linked_from_outside_the_root_is_not_listed(tmp_path: Path) -> None:
    touched(tmp_path / "elsewhere" / "inner", "a.png")
    (touched(tmp_path / "root") / "link").symlink_to("../elsewhere")
    for folder in (tmp_path / "root" / "link", tmp_path / "root" / "link" / "inner"):
        with pytest.raises(ConfigError) as refused:
            list(entries(folder, root=tmp_path / "root"))
        outside = f"{folder}, a link to {folder.resolve()}"
        assert (
            str(refused.value) == f"data.root: expected links that stay in {tmp_path / 'root'}, got {outside}"
        )


def test_the_content_of_a_file_inside_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\xff")
    (tmp_path / "b").symlink_to("a")
    assert read_content(tmp_path / "b", root=tmp_path, where="here") == b"a\xff"


def test_missing_file_is_named_with_its_expected_location(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("a", "folder", "link", "folder/a"):
        path = tmp_path / name
        with pytest.raises(ConfigError) as refused:
            read_content(path, root=tmp_path, where="in a place")
        assert str(refused.value) == f"data.root: expected {path.name} in a place, got no {path}"


def test_file_outside_the_root_is_not_read(tmp_path: Path) -> None:
    (touched(tmp_path / "root") / "a").symlink_to(touched(tmp_path, "b") / "b")
    with pytest.raises(ConfigError, match=r"^data\.root: expected links that stay in .*/root, got .*/root/a"):
        read_content(tmp_path / "root" / "a", root=tmp_path / "root", where="here")


@pytest.mark.parametrize("name", ["folder/a", "folder"])
def test_unreadable_file_is_rejected(open_path: Path, name: str) -> None:
    path = touched(open_path / "folder", "a") / "a"
    with locked(open_path / name), pytest.raises(ConfigError) as refused:
        read_content(path, root=open_path, where="here")
    assert str(refused.value) == f"data.root: expected files that can be read, got {path}: permission denied"
