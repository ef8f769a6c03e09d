"""Opens logs with Inspect's own reader and prints what it sees as JSON. Run by an interpreter that has inspect-ai."""

import json
import sys
from typing import Any

from inspect_ai.event import event_tree
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries, read_eval_log_samples


def seen(path: str) -> dict[str, Any]:
    log = read_eval_log(path, header_only=True)
    samples = list(read_eval_log_samples(path, all_samples_required=False, resolve_attachments=True))
    return {
        "version": log.version,
        "status": log.status,
        "task": log.eval.task,
        "model": log.eval.model,
        "roles": sorted(log.eval.model_roles or {}),
        "epochs": log.eval.config.epochs,
        "commit": log.eval.revision and log.eval.revision.commit,
        "created": log.eval.created,
        "samples": log.results.total_samples,
        "completed": log.results.completed_samples,
        "metrics": {score.name: {name: m.value for name, m in score.metrics.items()} for score in log.results.scores},
        "usage": {model: usage.model_dump(exclude_none=True) for model, usage in log.stats.model_usage.items()},
        "summaries": [
            summary.model_dump(exclude_none=True, mode="json") for summary in read_eval_log_sample_summaries(path)
        ],
        "each": [sample(each) for each in samples],
    }


def sample(it: Any) -> dict[str, Any]:
    models = [event for event in it.events if event.event == "model"]
    return {
        "id": it.id,
        "epoch": it.epoch,
        "input": it.input if isinstance(it.input, str) else [message.text for message in it.input],
        "scores": {name: score.value for name, score in (it.scores or {}).items()},
        "limit": it.limit and it.limit.type,
        "error": it.error and it.error.message,
        "messages": [message.model_dump(exclude_none=True, mode="json") for message in it.messages],
        "completion": it.output.completion,
        "usage": {model: usage.model_dump(exclude_none=True) for model, usage in it.model_usage.items()},
        "asked": [[message.text for message in event.input] for event in models],
        "tools": [[tool.name for tool in event.tools] for event in models],
        "descriptions": [tool.description for event in models for tool in event.tools][:1],
        "events": [event.event for event in it.events],
        "acts": [[event.function, event.arguments, event.text if hasattr(event, "text") else str(event.result)]
                 for event in it.events if event.event == "tool"],
        "tree": [shape(node) for node in event_tree(it.events)],
        "anchors": [event.anchor_id for event in it.events if event.event == "anchor"],
        "from": [event.from_anchor for event in it.events if event.event == "branch"],
    }  # fmt: skip


def shape(node: Any) -> Any:
    children = getattr(node, "children", None)
    if children is None:
        return node.event
    return [getattr(node, "name", ""), [shape(child) for child in children]]


print(json.dumps({path: seen(path) for path in sys.argv[1:]}))
