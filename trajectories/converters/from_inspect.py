"""Inspect: logs as `.eval` (deflate or zstd, samples whole or in chunks, also of an eval that never ended) and `.json`.

Each sample is a trajectory. Where its events were logged, they say what the models were asked and when; else its
messages do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trellis.trajectories.converters import document
from trellis.trajectories.converters.archive import Archive
from trellis.trajectories.converters.converter import ConversionError
from trellis.trajectories.converters.inspect_events import Events, Walk
from trellis.trajectories.converters.inspect_messages import Messages
from trellis.trajectories.converters.native import Identity, Source, Target

FORMAT = "inspect"
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Correct, partially correct, incorrect, no answer."""
_CHUNKED = ("messages", "events", "calls", "attachments")


def fits(value: Any) -> bool:
    if isinstance(value, Archive):
        return "header.json" in value or "_journal/start.json" in value
    return isinstance(value, dict) and isinstance(value.get("eval"), dict) and "schema_version" not in value


@dataclass(frozen=True)
class _Sample:
    place: str
    data: Mapping[str, Any]


def count_of(value: Any) -> int:
    """How many samples a log holds. Raises ConversionError: none."""
    held = len(_members(value)) if isinstance(value, Archive) else len(document.sequence(value.get("samples")))
    if not held:
        raise ConversionError(
            "this log holds no samples (it was written without them, or only their summaries are left)"
        )
    return held


def read(source: Source, target: Target) -> None:
    log = _log(source.document)
    for sample in _samples(source.document):
        _sample(log, sample, target)


def _log(value: Any) -> Mapping[str, Any]:
    """All of a log but its samples."""
    if isinstance(value, Archive):
        name = "header.json" if "header.json" in value else "_journal/start.json"
        value = document.an_object(value.json(name), name)
    version = value.get("version")
    if version is not None and (not isinstance(version, int) or version > 3):
        raise ConversionError(f"version: Inspect's log format {document.word(version)}; versions 1 to 3 are read")
    document.an_object(value.get("eval"), "eval")
    found: Mapping[str, Any] = value
    return found


def _members(archive: Archive) -> list[str]:
    """Of each sample the name of its member, or of the first of them."""
    names = [
        name for name in archive.names if re.fullmatch(r"samples/.+_epoch_\d+(\.json|/sample\.json)", name, re.DOTALL)
    ]
    return sorted(names, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """`sample 10` comes after `sample 9`."""
    pieces = re.split(r"(\d+)", name)
    return [(len(piece.lstrip("0")), piece.lstrip("0")) if piece.isdigit() else (0, piece) for piece in pieces]


def _samples(value: Any) -> Iterator[_Sample]:
    if not isinstance(value, Archive):
        for number, sample in enumerate(document.a_list(value.get("samples"), "samples")):
            yield _Sample(f"samples[{number}]", document.an_object(sample, f"samples[{number}]"))
        return
    chunks = _chunks(value)
    for name in _members(value):
        sample = document.an_object(value.json(name), name)
        if name.endswith("/sample.json"):
            sample = _assembled(value, name.removesuffix("sample.json"), sample, chunks)
        yield _Sample(name, sample)


def _chunks(archive: Archive) -> Mapping[tuple[str, str], list[str]]:
    """The members that hold samples in chunks, by sample and sequence, in order."""
    chunks: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(archive.names, key=_natural):
        if found := re.fullmatch(rf"(.+/)({'|'.join(_CHUNKED)})/\d+\.json", name, re.DOTALL):
            chunks[found[1], found[2]].append(name)
    return chunks


def _assembled(
    archive: Archive, prefix: str, shell: dict[str, Any], chunks: Mapping[tuple[str, str], list[str]]
) -> dict[str, Any]:
    """A sample in chunks, whole again. Raises ConversionError: it is larger than a document may be."""
    before = archive.bytes_read

    def items(name: str) -> list[Any]:
        read = document.a_list(archive.json(name), name)
        if archive.bytes_read - before > document.MAX_BYTES:
            raise ConversionError(f"{prefix}: larger than {document.MAX_BYTES // 1024 // 1024:,} MB in all its chunks")
        return read

    sequences = {
        sequence: [item for name in chunks.get((prefix, sequence), ()) for item in items(name)] for sequence in _CHUNKED
    }
    metadata = archive.json(f"{prefix}metadata.json") if f"{prefix}metadata.json" in archive else {}
    return {
        **shell,
        "metadata": metadata or shell.get("metadata"),
        "events": sequences["events"],
        "events_data": {"messages": sequences["messages"], "calls": sequences["calls"]},
        "attachments": {str(number): each for number, each in enumerate(sequences["attachments"])},
    }


def _sample(log: Mapping[str, Any], sample: _Sample, target: Target) -> None:
    data, spec = sample.data, document.mapping(log.get("eval"))
    messages = Messages(data, document.word(spec.get("model")))
    scores = _scores(data)
    own = document.mapping(document.mapping(data.get("metadata")).get("trellis"))
    episode = document.mapping(document.mapping(own.get("header")).get("episode"))
    roles = document.mapping(spec.get("model_roles"))
    models = {role: document.word(document.mapping(each).get("model")) for role, each in roles.items()}
    main = document.word(spec.get("model"))
    identity = Identity(
        FORMAT,
        task=document.word(data.get("id")) or sample.place,
        agent=document.word(episode.get("agent")) or _agent(log, spec),
        version=document.word(log.get("version")),
        epoch=max(1, document.count(data.get("epoch"))),
        benchmark=document.word(spec.get("task")),
        benchmark_version=document.word(spec.get("task_version")),
        models={**{role: model for role, model in models.items() if model}, **({"main": main} if main else {})},
        outcome=document.word(own.get("outcome")) or _outcome(data),
        score=next((_grade(score.get("value")) for score in scores.values()), None),
        more={
            "scores": scores,
            "target": data.get("target"),
            "choices": data.get("choices"),
            "setup": document.text(messages.resolved(data.get("setup")))[:20_000],
            "trellis": document.without(own, "outcome"),
            "metadata": document.without(messages.resolved(document.mapping(data.get("metadata"))), "trellis"),
            "sandbox": data.get("sandbox"),
            "uuid": document.word(data.get("uuid")),
            "error": document.mapping(data.get("error")),
            "limit": document.mapping(data.get("limit")),
            "eval": document.without({name: spec.get(name) for name in ("eval_id", "run_id", "created", "revision",
                                                                          "packages", "dataset", "task_args")}),
        },
    )  # fmt: skip
    with target.episode(identity) as writer:
        messages.losses = writer.losses
        walk = Walk(writer, messages, ours=bool(own))
        events = Events(data, messages, sample.place)
        writer.at(document.when(data.get("started_at")))
        refs = data.get("message_refs")
        said = (
            messages.many(data.get("messages"), f"{sample.place}.messages")
            if refs is None
            else messages.referred(refs, f"{sample.place}.message_refs")
        )
        if events.asked:
            walk.events(events)
        else:
            walk.conversation(said, document.mapping(data.get("output")))
        writer.messages = len(said) or writer.messages
        for name, score in scores.items():
            writer.line().note("imported.score", **{**messages.resolved(score), "name": name})
        if not own and (answer := messages.answer(data.get("output"))):  # our own exporter says it where it happened
            writer.submit(answer)
        writer.total(*messages.usage_of_all(data.get("model_usage")))
        losses = writer.losses
        losses.add("changes of the sample's store", int(bool(data.get("store"))))
        losses.add("files of the sample's world", len(document.mapping(data.get("files"))))
        losses.add("timelines", len(document.sequence(data.get("timelines"))))
        losses.add("attempts before an error was retried", len(document.sequence(data.get("error_retries"))))


def _agent(log: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """What solved it: the named solver, or the steps of its plan."""
    steps = document.sequence(document.mapping(log.get("plan")).get("steps"))
    named = [document.word(document.mapping(step).get("solver")) for step in steps]
    return document.word(spec.get("solver")) or "+".join(filter(None, named))[:200] or FORMAT


def _outcome(sample: Mapping[str, Any]) -> str:
    if sample.get("error"):
        return "fault"
    return "limit" if sample.get("limit") else "completed"


def _scores(sample: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By scorer; early logs have a single one."""
    scores = document.mapping(sample.get("scores"))
    if not scores and isinstance(sample.get("score"), dict):
        scores = {"score": sample["score"]}
    return {name: score for name, score in scores.items() if isinstance(score, dict)}


def _grade(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return _GRADES.get(value)
    return document.number(value)
