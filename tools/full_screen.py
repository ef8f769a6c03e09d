"""Programs that want a whole screen, which `shell` has not: how they are noticed, and what does the same without."""

from __future__ import annotations

import re

_PICTURE = re.compile(
    rb"(?:\x1b\[\?(?:47|1047|1049)h|\x1b\[\?1h\x1b=|\x1b\[\d+;\d+[Hf])"
    rb".*?(?:\x1b\[\?(?:47|1047|1049)l|\x1b\[\?1l\x1b>|\Z)",
    re.DOTALL,
)
"""Begins where a program switches to the alternate screen, or the keypad to the mode of such programs, or writes at a
place of the screen; ends where it switches back, if it does."""

_REFUSES = re.compile(
    rb"terminal is not fully functional|[Ee]rror opening terminal|[Oo]utput is not (?:to )?a terminal"
    rb"|[Ss]tandard (?:input|output) is not a (?:tty|terminal)|failed tty get|unknown terminal type"
    rb"|TERM environment variable not set|open terminal failed|[Mm]ust be run in a terminal|terminal lacks the ability"
)

_INSTEAD = {
    ("vi", "vim", "nvim", "view", "nano", "pico", "emacs", "micro", "joe"): (
        "change files with the edit tool, sed or a script"
    ),
    ("less", "more", "most", "man", "info"): "read with cat, head or sed -n; `man NAME | cat`",
    ("top", "htop", "btop", "atop"): "take `top -b -n 1` or `ps aux`",
    ("watch",): "run the command itself, in a loop with sleep if need be",
    ("tmux", "screen", "byobu"): "run it with `background`",
    ("tig", "lazygit"): "take git's own commands",
    ("mc", "ranger", "nnn"): "take ls, find, cp and mv",
}
_ADVICE = {name: advice for names, advice in _INSTEAD.items() for name in names}
_WORDS = re.compile(r"(?:^|[;&|(\n])\s*(?:\w+=\S*\s+|sudo\s+|exec\s+|env\s+|command\s+)*([\w./+-]+)")
_GENERAL = "take a program or an option that prints and ends"


def without_pictures(output: bytes) -> bytes:
    """What was printed before and after a program had the screen, whose picture makes no sense line by line."""
    return _PICTURE.sub(b"", output)


def remark(command: str, output: bytes, *, stuck: bool, failed: bool) -> str:
    """What to say of a command that wanted a screen; empty if it did not. `stuck`: it waits, or its time ran out."""
    names = [found.rpartition("/")[2] for found in _WORDS.findall(command)]
    known = next((name for name in names if name in _ADVICE), "")
    if _PICTURE.search(output) or (stuck and known) or (failed and _REFUSES.search(output)):
        return f"[{known or 'this'} is a full-screen program, for which there is no screen: {_advice(known)}]"
    return ""


def _advice(name: str) -> str:
    return _ADVICE.get(name, _GENERAL)
