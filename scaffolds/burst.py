"""The ReAct loop (reason, act, observe; Yao et al. 2023, arXiv:2210.03629), shared by every scaffold that runs it:
for a whole episode, or for a burst of a few steps in a branch."""

from __future__ import annotations

from trellis.models.messages import Message, ToolResult, user
from trellis.scaffolds.context import Context, ContextOptions
from trellis.scaffolds.episode import Episode, Refused
from trellis.tools.browser.collapse import collapse

NUDGE = "Go on with a tool call. When the work is done, hand it in with submit."


async def react_burst(
    episode: Episode,
    messages: list[Message],
    options: ContextOptions,
    max_steps: int | None = None,
    results: list[ToolResult] | None = None,
) -> None:
    """Converse until this branch hands in, or for `max_steps` replies; `messages` grows by what was said, and is
    shortened as the options say. What came back from tools is also appended to `results`.

    In a task without a world a reply without tool calls is the answer, unless its type is checked by `submit`.

    Raises:
        LimitReached: the budget is spent.
        ContextFull: the conversation does not fit into the context window.
        Refused: the model declined.
    """
    steps, context = 0, Context(episode, options)
    while episode.handed_in is None and (max_steps is None or steps < max_steps):
        reply = await context.generate(messages)
        messages.append(reply.message)
        steps += 1
        if reply.stop_reason == "refusal":
            raise Refused(reply.text)
        for call in reply.tool_calls:
            result = await episode.act(call)
            messages.append(result.message)
            if results is not None:
                results.append(result)
        if any(call.name == "browser" for call in reply.tool_calls):
            messages[:] = collapse(messages)  # each page fills the context once, not once for every look at it
        if not reply.tool_calls:
            if episode.task.environment is None and not _checked(episode):
                await episode.submit(reply.text)
            else:
                messages.append(user(NUDGE))


def _checked(episode: Episode) -> bool:
    return episode.task.answer is not None and any(tool.spec.name == "submit" for tool in episode.tools)
