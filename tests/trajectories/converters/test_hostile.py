"""Whatever a file holds, it is imported, or one line says what is wrong with it and where."""

import copy
import json
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.runs import exporting
from trellis.runs.folder import safe_name
from trellis.trajectories.converters import archive, document, inspect_messages, line
from trellis.trajectories.converters.converter import ConversionError, Imported
from trellis.trajectories.converters.importing import Import
from trellis.trajectories.converters.to_openai import Choice
from trellis.trajectories.trajectory import Trajectory

SAMPLES = Path(__file__).parent / "samples"
NAMES = ("atif.json", "old.traj", "attempts.traj", "mini-1.traj.json", "mini-2.traj.json", "openhands.json",
         "aide.json", "inspect.json")  # fmt: skip
ODD: list[Any] = [None, True, 0, -1, 10**400, 1e308, 2.5, "", "x", "\ud800", "\0\x1b[2J", "NaN", [], [[]], [None], {},
                  {"": None}, [{"role": "user"}], "data:image/png;base64,!!", "9999-12-31T23:59:59Z",
                  [[0, 10**9]]]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values below this one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in inner for found in ((*path, key), *places(each, (*path, key)))]


WHOLE = {name: json.loads((SAMPLES / name).read_text()) for name in NAMES}
PLACES = {name: places(value) for name, value in WHOLE.items()}


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    """A sample with some values replaced by others, removed, or said twice."""
    name = draw(st.sampled_from(NAMES))
    value = copy.deepcopy(WHOLE[name])
    for _ in range(draw(st.integers(1, 4))):
        *outer, key = draw(st.sampled_from(PLACES[name]))
        target = value
        try:
            for step in outer:
                target = target[step]
            old = target[key]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
        if not isinstance(target, dict | list):
            continue
        match draw(st.sampled_from(["replace", "remove", "double", "add", "swap"])):
            case "replace":
                target[key] = draw(st.sampled_from(ODD))
            case "remove":
                del target[key]
            case "double" if isinstance(target, list):
                target.insert(key, copy.deepcopy(old))
            case "add" if isinstance(target, dict):
                target[draw(st.sampled_from(["kind", "name", "self", "data", "number", "extra", "trellis"]))] = old
            case _:
                target[key] = draw(st.sampled_from([[old], {"a": old}, json.dumps(old)]))
    return name, value


def tried(path: Path, folder: Path) -> tuple[list[Imported], str]:
    """What was imported, or the line that says why not."""
    try:
        with Import(path) as opened:
            return opened.write(lambda identity: folder / safe_name(f"{identity.task}-{identity.epoch}")), ""
    except ConversionError as error:
        return [], str(error)


def refused(path: Path) -> str:
    made, said = tried(path, path.parent / "to")
    assert not made
    assert said
    assert "\n" not in said
    return said


@settings(max_examples=250, deadline=None, derandomize=True)
@given(mutated(), st.sampled_from([format for format in exporting.FORMATS if format != "otel"]))
def test_a_changed_file_is_imported_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, Any], format: str
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    name, value = case
    path = folder / name
    path.write_text(json.dumps(value))
    made, said = tried(path, folder / "to")
    assert bool(made) != bool(said)
    assert "\n" not in said
    for each in made:
        with Trajectory(each.path) as trajectory:  # and what was made can be read
            steps = list(trajectory.steps())
            assert len(steps) == each.steps
            assert all(len(trajectory.conversation(step)) == step.kept + len(step.given) for step in steps)
        assert json.loads(json.dumps(each.to_json()))
        options = {"choice": Choice()} if format == "openai" else {}
        with suppress(ConversionError):  # and exported, or that is refused in one line
            exporting.export(
                exporting.episodes_of([each.path / "trajectory.jsonl"]), format, folder / "out.json", **options
            )


def test_no_number_in_a_log_is_other_than_finite(importing: Callable[..., list[Imported]], tmp_path: Path) -> None:
    step = (
        '{"source": "agent", "message": "", "metrics": {"cost_usd": NaN}, "extra": {"a": 1e999, "b": [-Infinity, 2]}}'
    )
    path = tmp_path / "x.json"
    path.write_text('{"schema_version": "ATIF-v1.0", "agent": {"name": "a"}, "steps": [' + step + "]}")
    (made,) = importing(path)
    assert made.cost_usd is None
    assert '"extra":{"b":[null,2]}' in (made.path / "trajectory.jsonl").read_text()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "x.json: not JSON: Expecting value (line 1, column 1, byte 0)"),
        (b'{"a": 1}\n{"b": 2}\n', "x.json: not JSON: Extra data (line 2, column 1, byte 9)"),
        (b'{"nodes": [1,', "x.json: not JSON: Expecting value (line 1, column 14, byte 13)"),
        (b"[\xff]", "x.json: not UTF-8 text (byte 1)"),
        (b"[" * 100_000, "x.json: nested more than 200 levels deep"),
        (b"[" * 300 + b"]" * 300, "x.json: nested more than 200 levels deep"),
        (b"[" + b"9" * 5000 + b"]", "x.json: not JSON that can be read"),
        (b'{"steps": []}', "x.json is no trajectory of a known format (atif, swe-agent, mini-swe-agent, openhands,"),
        (b"[]", "x.json is no trajectory of a known format"),
        (b'{"nodes": [{"id": "a"}, {"id": "a"}], "node2parent": {}}', "x.json: nodes[1]: there is a node of id 'a'"),
        (b'{"nodes": [{"id": "a"}], "node2parent": {"a": "b"}}', "x.json: nodes[0]: its parent 'b' is no node"),
        (b'{"nodes": [7], "node2parent": {}}', "x.json: nodes[0] is a number, not an object"),
        (b'{"schema_version": "ATIF-v2.0", "agent": {}, "steps": []}', "x.json: schema_version: ATIF '2.0'"),
        (b'{"schema_version": "ATIF-v1.0", "agent": {}, "steps": [{"source": "dog"}]}', "x.json: steps[0].source"),
        (b'{"version": 2, "eval": {}, "samples": []}', "x.json: this log holds no samples"),
        (b'{"version": 4, "eval": {}, "samples": [{}]}', "x.json: version: Inspect's log format 4"),
    ],
)  # fmt: skip
def test_damage_is_told_with_its_place(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    assert refused(path).startswith(says)


def test_a_sample_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    value = copy.deepcopy(WHOLE["inspect.json"])
    value["samples"].append(value["samples"][0])
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    assert refused(path) == "x.json holds episode 1 of task 'one' more than once"


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


LOG = json.dumps({name: value for name, value in WHOLE["inspect.json"].items() if name != "samples"}).encode()
ONE = json.dumps(WHOLE["inspect.json"]["samples"][0]).encode()


def test_a_member_that_unpacks_to_more_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 1 << 20)
    path = zipped(tmp_path / "x.eval", {"header.json": LOG, "samples/1_epoch_1.json": b"[" + b" " * (1 << 26)})
    assert path.stat().st_size < 1 << 17
    assert refused(path) == "x.eval, samples/1_epoch_1.json: larger than 1 MB, which is more than is read"


def test_members_that_unpack_to_more_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 20_000)
    samples = {f"samples/{n}_epoch_1.json": ONE.replace(b'"one"', f'"{n}"'.encode()) for n in range(10)}
    assert "unpacked" in refused(zipped(tmp_path / "x.eval", {"header.json": LOG, **samples}))


def test_many_small_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_VALUES", 2_000_000)
    (tmp_path / "x.json").write_bytes(b"[" + b"[]," * 500_000 + b"[]]")
    assert refused(tmp_path / "x.json") == "x.json: more than 2 million values, which is more than is read"


def test_chunks_that_are_too_much_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 1 << 20)
    chunk = json.dumps([{"event": "info", "data": "x" * 400_000}]).encode()
    chunks = {f"samples/1_epoch_1/events/{n}.json": chunk for n in range(4)}
    path = zipped(tmp_path / "x.eval", {"header.json": LOG, "samples/1_epoch_1/sample.json": ONE, **chunks})
    assert refused(path) == "x.eval: samples/1_epoch_1/: larger than 1 MB in all its chunks"


def test_calls_that_send_everything_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "MAX_SENT", 10_000)
    (tmp_path / "x.json").write_text(json.dumps([{"role": "assistant", "content": f"{n}"} for n in range(300)]))
    assert refused(tmp_path / "x.json") == "x.json: x: its calls send more than 10,000 messages"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    assert refused(tmp_path / "x.json") == "x.json is no regular file: it is read more than once"


def test_attachments_that_are_referred_to_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_messages, "MAX_ATTACHED_BYTES", 1 << 20)
    sample = copy.deepcopy(WHOLE["inspect.json"]["samples"][0])
    sample["attachments"]["long"] = "x" * 10_000
    sample["messages"] = [{"role": "user", "content": ["attachment://long"] * n} for n in range(60)]
    members = {"header.json": LOG, "samples/one_epoch_1.json": json.dumps(sample).encode()}
    assert "attachments: more than" in refused(zipped(tmp_path / "x.eval", members))


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    names = ("../../evil", "/etc/evil", "samples/../../evil_epoch_1.json", "samples/a/../../../b_epoch_1/sample.json")
    folder = tmp_path / "in"
    folder.mkdir()
    sample = ONE.replace(b'"one"', b'"../../evil"')
    path = zipped(folder / "x.eval", {"header.json": LOG, **dict.fromkeys(names[:2], b"{}"), names[2]: sample,
                                      names[3]: ONE})  # fmt: skip
    made, said = tried(path, tmp_path / "to")
    assert (len(made), said) == (2, "")
    written = {each for each in tmp_path.rglob("*") if each.is_file() and not each.is_relative_to(tmp_path / "to")}
    assert written == {path}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_is_damaged_anywhere(tmp_path: Path, compression: int) -> None:
    path = zipped(tmp_path / "x.eval", {"header.json": LOG, "samples/one_epoch_1.json": ONE}, compression)
    whole = path.read_bytes()
    for at in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        made, said = tried(path, tmp_path / f"to-{at}")
        assert bool(made) != bool(said)
        assert "\n" not in said
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path)


DAMAGED = [b"", b"\x28\xb5\x2f\xfd", b"not zstd", b"\x28\xb5\x2f\xfd\x00\xff" + b"\0" * 50]


@pytest.mark.parametrize("packed", DAMAGED)
def test_a_member_whose_zstd_is_damaged(tmp_path: Path, packed: bytes) -> None:
    path = tmp_path / "x.eval"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("header.json", LOG)
        info = zipfile.ZipInfo("samples/one_epoch_1.json")
        file.writestr(info, packed)
        info.compress_type, info.file_size, info.CRC = 93, 100, 7
    assert refused(path).startswith("x.eval, samples/one_epoch_1.json: ")


def test_two_members_of_one_name(tmp_path: Path) -> None:
    data = zipped(tmp_path / "x.eval", {"header.json": LOG, "headex.json": LOG, "samples/one_epoch_1.json": ONE})
    data.write_bytes(data.read_bytes().replace(b"headex", b"header"))
    assert refused(data) == "x.eval: two of its members have the same name"


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    assert "is no trajectory of a known format" in refused(zipped(tmp_path / "x.zip", {"a.txt": b"a"}))


def test_a_locked_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.eval", {"header.json": LOG, "samples/one_epoch_1.json": ONE})
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[central + 8 : central + 10] = struct.pack("<H", 1)  # encrypted
    path.write_bytes(data)
    assert "samples/one_epoch_1.json: damaged" in refused(path)


def test_a_reply_with_more_calls_than_anybody_makes(importing: Callable[..., list[Imported]]) -> None:
    call = {"tool_call_id": "a", "function_name": "f", "arguments": {}}
    step = {"source": "agent", "message": "", "tool_calls": [call] * 5000}
    with pytest.raises(ConversionError, match="a reply with 5,000 tool calls"):
        importing({"schema_version": "ATIF-v1.4", "agent": {"name": "a"}, "steps": [step]})
