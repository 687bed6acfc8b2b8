"""What a process that was killed while it exported leaves in the folder of its run."""

from __future__ import annotations

from pathlib import Path

from experiments.running import clear_unfinished


def test_unfinished_checkpoints_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "checkpoint" / "low", tmp_path / "elsewhere" / "low"]
    for folder in (*kept, tmp_path / ".checkpoint-a1b2" / "export" / "low"):
        folder.mkdir(parents=True)
    (tmp_path / ".checkpoint-link").symlink_to(kept[1])
    clear_unfinished(tmp_path)
    assert not (tmp_path / ".checkpoint-a1b2").exists()
    assert all(folder.is_dir() for folder in kept)
