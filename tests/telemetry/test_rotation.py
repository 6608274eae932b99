"""The run's log is bounded, whoever writes it."""

from __future__ import annotations

from pathlib import Path

from hedgelock.telemetry import rotation


def test_a_large_file_is_put_aside_while_others_append_to_it(tmp_path: Path) -> None:
    """Nothing said before or after is lost; each writer goes on in the emptied file."""
    path = tmp_path / "hedgelock.log"
    with path.open("ab", buffering=0) as one, path.open("ab", buffering=0) as two:
        one.write(b"1" * 60)
        two.write(b"2" * 60)
        assert rotation.rotate(path, bytes_max=100)
        two.write(b"b")
        one.write(b"a")
        assert not rotation.rotate(path, bytes_max=100)
    assert (tmp_path / "hedgelock.log.1").read_bytes() == b"1" * 60 + b"2" * 60
    assert path.read_bytes() == b"ba"


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    """However often it turns, the number of files is bounded and `.1` is the newest."""
    path = tmp_path / "hedgelock.log"
    for number in range(10):
        path.write_text(str(number) * 10)
        if number % 2:
            rotation.put_aside(path, kept=3)
        else:
            assert rotation.rotate(path, bytes_max=5, kept=3)
    rotation.put_aside(tmp_path / "absent.log")
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["hedgelock.log.1", "hedgelock.log.2", "hedgelock.log.3"]
    assert [(tmp_path / name).read_text()[0] for name in kept] == ["9", "8", "7"]
