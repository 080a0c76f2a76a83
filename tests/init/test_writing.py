"""New files are written all or none, never over an existing one, and secrets for their owner only."""

from __future__ import annotations

import stat

import pytest

from gateway.command_errors import CannotRunError
from gateway.init.writing import write_new

FILES = {"a.yaml": ("a", 0o644), ".env": ("secret", 0o600)}


def test_files_have_their_text_and_mode_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "new" / "folder"
    write_new(folder, FILES)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.yaml": "a", ".env": "secret"}
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "a.yaml").stat().st_mode) == 0o644


@pytest.mark.parametrize("make", ["file", "link"])
def test_an_existing_file_is_named_and_stays_and_no_other_is_written(tmp_path, make):
    there = tmp_path / ".env"
    there.write_text("mine") if make == "file" else there.symlink_to("nowhere")
    with pytest.raises(CannotRunError, match=r"\.env exists, and nothing is overwritten\. Move it away"):
        write_new(tmp_path, FILES)
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert make == "link" or there.read_text() == "mine"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.init.writing.refuse_existing", lambda *_: None)
    (tmp_path / ".env").write_text("mine")
    with pytest.raises(CannotRunError):
        write_new(tmp_path, FILES)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {".env": "mine"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CannotRunError, match=r"file/x cannot be written \(Not a directory\)\. Choose another"
    ):
        write_new(tmp_path / "file" / "x", FILES)
