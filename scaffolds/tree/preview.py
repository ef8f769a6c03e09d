"""What the model is shown of the data: our own script, run in the task's world by a recorded tool call."""

from __future__ import annotations

from importlib import resources

from trellis.scaffolds.episode import Episode

TIMEOUT_S = 300.0


async def look(episode: Episode) -> tuple[str, str]:
    """An overview of the data, and the packages installed in the world."""
    script = resources.files("trellis.scaffolds.tree").joinpath("overview.py").read_text("utf-8")
    result = await episode.use("python", code=script, timeout_s=TIMEOUT_S, fresh=True)
    if result.data.get("exit_code") != 0:
        return f"(the data could not be previewed)\n{result.text}", ""
    packages, _, overview = result.text.partition("\n\n")
    return overview.strip(), packages
