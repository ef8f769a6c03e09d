"""What a bash knows, as a script that makes another bash know it: how it is asked of the one and told to the other.

A state is bytes: the JSON of the members of `pack`, in which bytes stand as Latin-1 characters. Places below the
world's folder are kept relative to it: another world may have its folder elsewhere.

Part of the guest (see program.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

LONGEST_VARIABLE_BYTES, LONGEST_STATE_BYTES = 1 << 20, 4 << 20
LONGEST_ANSWER_BYTES = 32 << 20
"""What bash may write in answer to a `question`; variables that are too long are part of it."""
UNKNOWN = b"{}"
"""The state of a shell that could not be told. `unpack` refuses it, so whoever should go on with it hears so."""
SPECIAL = frozenset(
    [
        "_", "COPROC", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "HOSTNAME",
        "HOSTTYPE", "LINENO", "MACHTYPE", "OLDPWD", "OSTYPE", "PIPESTATUS", "PPID", "PWD", "RANDOM", "SECONDS",
        "SHELLOPTS", "SHLVL", "SRANDOM", "UID",
    ]
)  # fmt: skip
SPECIAL_BEGINNINGS = (b"BASH", b"COMP_", b"COPROC_", b"__trellis_")
"""Variables that bash itself keeps."""
_DECLARED = re.compile(rb"declare (-\S+) ([A-Za-z_]\w*)")

# Runs in a subshell, so nothing of it is left behind. Sections end in a NUL, which no text of bash can contain. What
# traps and options could disturb goes first, each part in one command of its own: traps of the shell may print.
_ASK = rb"""\builtin trap -p >|%(to)s
\builtin trap - DEBUG ERR RETURN EXIT
{ \builtin printf '\0'; \builtin shopt -p; \builtin set +o; } >>%(to)s
\builtin set +eux +o noglob +o noclobber +o posix
\builtin shopt -u extdebug
{ \builtin printf '\0'; \builtin umask -p
\builtin printf '\0'; \builtin pwd
\builtin printf '\0%%s\0' "${OLDPWD-}"; \builtin printf '%%q ' "$@"
\builtin printf '\0'; \builtin alias -p
\builtin printf '\0'; \builtin declare -f; \builtin declare -F
\builtin printf '\0'; %(environment)s
\builtin printf '\0'; \builtin declare -p IFS
IFS=$' \t\n'
for __trellis_name in $(\builtin compgen -A variable); do
[[ $__trellis_name == IFS ]] || { \builtin printf '\0'; \builtin declare -p "$__trellis_name"; }
done
\builtin printf '\0end'; } >>%(to)s
"""


def question(to: str, env: Mapping[str, str]) -> bytes:
    """A script that makes bash write what it knows into the file `to`; `env` are the variables of its world."""
    lines = [b"[[ -v %s ]] || \\builtin printf '%%s ' -%s" % (name, name) for name in _names(env)]
    lines += [
        b"[[ ${%s-} != %s ]] || \\builtin printf '%%s ' =%s"
        % (name, quote(env[name.decode()].encode(*_AS_PATHS)), name)
        for name in _names(env)
    ]
    return _ASK % {b"to": to.encode(), b"environment": b"\n".join(lines)}


def pack(told: bytes, workdir: str) -> bytes:
    """The state, from what bash wrote in answer to a `question`; UNKNOWN if that was cut short or is too much."""
    sections = told.split(b"\0")
    if len(sections) < 10 or sections[-1] != b"end":
        return UNKNOWN
    traps, options, umask, folder, previous, arguments, aliases, functions, environment, *variables = sections[:-1]
    marks = environment.split()
    same = {mark[1:] for mark in marks if mark[:1] == b"="}
    unset = [mark[1:] for mark in marks if mark[:1] == b"-"]
    kept, left_out = _variables(variables, same)
    state = {
        "folder": _relative(folder[:-1], workdir),
        "previous": _relative(previous, workdir),
        "functions": functions,
        "variables": b"\n".join([*kept, *(b"\\builtin unset -v " + name for name in unset)]),
        "aliases": aliases,
        "rest": b"\n".join([umask, b"\\builtin set -- " + arguments, options, traps]),
        "left_out": b" ".join(left_out),
    }
    if sum(map(len, state.values())) > LONGEST_STATE_BYTES:
        return UNKNOWN
    return json.dumps({name: text.decode("latin-1") for name, text in state.items()}).encode()


def unpack(state: bytes, workdir: str) -> bytes:
    """A script that tells another bash. What it prints is for whoever reads the output of the next command.

    Raises:
        ValueError: that is no state.
    """
    try:
        known = {name: text.encode("latin-1") for name, text in json.loads(state).items()}
        folder, previous = (_absolute(known[name], workdir) for name in ("folder", "previous"))
        functions, variables, aliases, rest, left_out = (
            known[name] for name in ("functions", "variables", "aliases", "rest", "left_out")
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not the state of a shell: {error!r}") from None
    lines = [  # functions late: one may bear the name of a builtin
        b"\\builtin shopt -s extglob; \\builtin shopt -u expand_aliases",
        b"\\builtin cd -- %s" % quote(previous) if previous else b"",
        b"\\builtin cd -- %s || %s" % (quote(folder), _say(b"the working folder is gone: " + folder)),
        b"\\builtin eval %s" % quote(variables),
        _say(b"variables too long to be taken over: " + left_out) if left_out else b"",
        b"\\builtin eval %s >/dev/null || %s" % (quote(functions), _say(b"not all functions could be taken over")),
        b"\\builtin eval %s" % quote(aliases),
        b"\\builtin eval %s" % quote(rest),
    ]
    return b"\n".join(lines) + b"\n"


def quote(text: bytes) -> bytes:
    return b"'" + text.replace(b"'", b"'\\''") + b"'"


_AS_PATHS = ("utf-8", "surrogateescape")


def _names(env: Mapping[str, str]) -> list[bytes]:
    return [name.encode() for name in env if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name not in SPECIAL]


def _say(message: bytes) -> bytes:
    return b"\\builtin printf '%%s\\n' %s" % quote(b"[the shell of the snapshot: " + message + b"]")


def _variables(declared: list[bytes], same: set[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The declarations that another bash needs, and the names of those that are too long."""
    kept, left_out = [], []
    for text in declared:
        found = _DECLARED.match(text)
        if found is None or found[2].decode() in SPECIAL or found[2].startswith(SPECIAL_BEGINNINGS):
            continue
        if len(text) > LONGEST_VARIABLE_BYTES:
            left_out.append(found[2])
        elif not (found[2] in same and found[1] == b"-x"):
            kept.append(text)
    return kept, left_out


def _relative(path: bytes, workdir: str) -> bytes:
    top = workdir.encode(*_AS_PATHS)
    return b"./" + path[len(top) + 1 :] if (path + b"/").startswith(top + b"/") else path


def _absolute(path: bytes, workdir: str) -> bytes:
    return os.path.join(workdir.encode(*_AS_PATHS), path[2:]) if path[:2] == b"./" else path  # noqa: PTH118
