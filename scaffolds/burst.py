"""The ReAct loop (reason, act, observe; Yao et al. 2023, arXiv:2210.03629), shared by every scaffold that runs it:
for a whole episode, or for a burst of a few steps in a branch."""

from __future__ import annotations

from trellis.models.messages import Message, user
from trellis.scaffolds.episode import Episode, Refused
from trellis.tools.browser.collapse import collapse

NUDGE = "Go on with a tool call. When the work is done, hand it in with submit."


async def react_burst(episode: Episode, messages: list[Message], max_steps: int | None = None) -> None:
    """Converse until this branch hands in, or for `max_steps` replies; `messages` grows by what was said.

    In a task without a world a reply without tool calls is the answer, unless its type is checked by `submit`.

    Raises:
        LimitReached: the budget is spent.
        Refused: the model declined.
    """
    steps = 0
    while episode.handed_in is None and (max_steps is None or steps < max_steps):
        reply = await episode.generate(messages)
        messages.append(reply.message)
        steps += 1
        if reply.stop_reason == "refusal":
            raise Refused(reply.text)
        for call in reply.tool_calls:
            messages.append((await episode.act(call)).message)
        if any(call.name == "browser" for call in reply.tool_calls):
            messages[:] = collapse(messages)  # each page fills the context once, not once for every look at it
        if not reply.tool_calls:
            if episode.task.environment is None and not _checked(episode):
                await episode.submit(reply.text)
            else:
                messages.append(user(NUDGE))


def _checked(episode: Episode) -> bool:
    return episode.task.answer is not None and any(tool.spec.name == "submit" for tool in episode.tools)
