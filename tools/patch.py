"""`apply_patch`: changes to several files in one patch, exactly or not at all.

A hunk is applied where the lines that it keeps and removes stand in the file, character by character, and only if
that is one place. Nothing is guessed; the first file that cannot be changed leaves all others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from trellis.environments.environment import Environment
from trellis.tools import files, syntax
from trellis.tools import text as texts
from trellis.tools.arguments import String
from trellis.tools.encoding import UTF_8, decode
from trellis.tools.patch_format import Add, Delete, Hunk, Section, Update, parse
from trellis.tools.tool import FunctionTool, Output, ToolError, tool


async def apply_patch(environment: Environment, input: String) -> Output:
    """Change files by a patch: all of it is applied, or nothing. The format:

    *** Begin Patch
    *** Update File: src/shapes.py
    @@ def area(width, height):
         if width < 0:
    -        return 0
    +        raise ValueError(width)
         return width * height
    *** Add File: notes.txt
    +a new file, every line with a plus
    *** Delete File: old.py
    *** End Patch

    In an updated file, lines that stay begin with a space, lines that go with -, new lines with +. What stays and goes
    must be written exactly as it is in the file and occur there once: give about three lines around each change, and
    where that is not enough, `@@` with a line above it (the class or function it lies in). `*** End of File` after the
    lines of a change says that it lies at the end. `*** Move to: path` after `*** Update File:` renames the file.
    Relative paths start at the workdir.

    Args:
        input: the patch, from `*** Begin Patch` to `*** End Patch`.
    """
    sections = parse(input)
    planned = await _plan(environment, sections)
    await files.carry_out(environment, [change for plan in planned for change in plan.changes])
    told = []
    for plan in planned:
        note = await syntax.note(environment, plan.path, plan.before, plan.after) if plan.after is not None else ""
        told.append(plan.says + note)
    return Output("\n".join(told))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one section comes to."""

    says: str
    changes: tuple[files.Change, ...]
    path: str = ""
    before: bytes | None = None
    after: bytes | None = None


async def _plan(environment: Environment, sections: Sequence[Section]) -> list[_Plan]:
    """Raises ToolError with everything that is wrong with the patch."""
    paths = [path for section in sections for path in _paths(section)]
    known = dict(zip(paths, await files.facts(environment, paths), strict=True))
    planned, problems = list[_Plan](), list[str]()
    taken = set[str]()
    for section in sections:
        try:
            for path in _paths(section):
                place = known[path].link or known[path].path
                if place in taken:
                    raise ToolError(f"{path} appears twice in the patch: put all that happens to it in one section")
                taken.add(place)
            planned.append(await _plan_section(environment, section, known))
        except ToolError as problem:
            problems.append(str(problem))
    if problems:
        raise ToolError("\n".join([*problems, "Nothing was changed."]))
    return planned


def _paths(section: Section) -> list[str]:
    return [section.path, *([section.move_to] if isinstance(section, Update) and section.move_to else [])]


async def _plan_section(environment: Environment, section: Section, known: dict[str, files.Facts]) -> _Plan:
    path, facts = section.path, known[section.path]
    if isinstance(section, Add):
        if facts.kind != "none" or facts.link:
            there = "is a folder" if facts.kind == "folder" else "is there already: use *** Update File"
            raise ToolError(f"{path} {there}")
        data = UTF_8.encode("".join(f"{line}\n" for line in section.lines))
        return _Plan(f"added {path}", (files.Change(facts, None, data),), path, None, data)
    before = await files.read(environment, path, facts)
    leaves = isinstance(section, Delete) or section.move_to
    if leaves and facts.link:
        raise ToolError(f"{path} is a symlink to {facts.link}: name the file itself, or change the link with a command")
    if isinstance(section, Delete):
        return _Plan(f"deleted {path}", (files.Change(facts, before, None),))
    after, where = before, ""
    if section.hunks:
        text, encoding = decode(path, before)
        new_text, starts = apply_hunks(path, text, section.hunks)
        after = encoding.encode(new_text)
        where = f" (now from line {', '.join(map(str, starts))})"
    through = f" (a symlink; the file is {facts.link})" if facts.link else ""
    if not section.move_to:
        return _Plan(f"updated {path}{through}{where}", (files.Change(facts, before, after),), path, before, after)
    target = known[section.move_to]
    if target.kind != "none" or target.link:
        raise ToolError(f"{section.move_to} is there already: {path} cannot be moved to it")
    changes = (files.Change(target, None, after, facts.mode), files.Change(facts, before, None))
    said = f"moved {path} to {section.move_to}" + (f" and updated it{where}" if section.hunks else "")
    return _Plan(said, changes, section.move_to, before, after)


# --- hunks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a hunk goes: the lines `first` to before `last`, counted from 0, are its old ones."""

    first: int
    last: int
    hunk: Hunk


def apply_hunks(path: str, text: str, hunks: Sequence[Hunk]) -> tuple[str, list[int]]:
    """The text with all hunks applied, and the lines where they now begin, counted from 1.

    Line ends stay: a new line gets that of the lines around it, and a text without a newline at its end stays so.

    Raises:
        ToolError: with every hunk that has no place, or more than one.
    """
    whole = texts.lines(text)
    bare = [_bare(line) for line in whole]
    places, problems = list[_Place](), list[str]()
    for hunk in hunks:
        try:
            places.append(_place(hunk, bare, text))
        except ToolError as problem:
            problems.append(f"{path}, hunk {hunk.number}: {problem}")
    places.sort(key=lambda place: (place.first, place.last, place.hunk.number))
    for one, next_ in pairwise(places):
        if next_.first < one.last:
            problems.append(f"{path}: hunks {one.hunk.number} and {next_.hunk.number} overlap: make them one hunk")
    if problems:
        raise ToolError("\n".join(problems))
    usual = "\r\n" if whole and texts.with_line_ends_of(text, "\n") == "\r\n" else "\n"
    out, starts, at = list[str](), list[int](), 0
    for place in places:
        out += whole[at : place.first]
        starts.append(len(out) + 1)
        out += _replaced(place, whole, usual)
        at = place.last
    out += whole[at:]
    return _ended(out, usual, final=not text or text.endswith("\n")), starts


def _replaced(place: _Place, whole: Sequence[str], usual: str) -> list[str]:
    """The new lines of a hunk; those that stay, stay as they are."""
    out, at = list[str](), place.first
    for sign, text in place.hunk.lines:
        if sign == "+":
            near = whole[at - 1] if at > 0 else whole[0] if whole else ""
            out.append(text + ("\r\n" if near.endswith("\r\n") else "\n" if near.endswith("\n") else usual))
            continue
        if sign == " ":
            out.append(whole[at])
        at += 1
    return out


def _ended(lines: list[str], usual: str, *, final: bool) -> str:
    """Only the last line may be without an end, and is if the old text was (`final` is false)."""
    closed = [line if line.endswith("\n") else line + usual for line in lines]
    if closed and not final:
        closed[-1] = _bare(closed[-1])
    return "".join(closed)


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def _place(hunk: Hunk, bare: Sequence[str], text: str) -> _Place:
    """The one place of a hunk.

    Raises:
        ToolError: there is none, or there are several.
    """
    old = hunk.old
    scopes = [(0, len(bare))]
    for header in hunk.below:
        inner = [scope for start, end in scopes for scope in _below(header, bare, start, end)]
        if not inner:
            raise ToolError(f"the line `@@ {header}` is not in the file. {texts.nearest(text, header)}")
        scopes = inner
    if not old:
        return _insertion(hunk, bare, scopes)
    found = [
        at
        for at in range(len(bare) - len(old) + 1)
        if bare[at] == old[0]
        and list(bare[at : at + len(old)]) == old
        and any(start <= at + hunk.lead < end + hunk.inserts for start, end in scopes)
        and (not hunk.at_end or at + len(old) == len(bare))
    ]
    if len(found) == 1:
        return _Place(found[0], found[0] + len(old), hunk)
    if found:
        numbers = ", ".join(str(at + 1) for at in found[:10])
        raise ToolError(
            f"its lines occur {len(found)} times (from lines {numbers}): add lines around the change, or `@@` with a "
            "line above it, until it is one place"
        )
    where = " at the end" if hunk.at_end else " below its `@@` line" if hunk.below else ""
    raise ToolError(f"its lines are not in the file{where}. {texts.nearest(text, _joined(old))}")


def _below(header: str, bare: Sequence[str], start: int, end: int) -> list[tuple[int, int]]:
    """What lies below each line like `header`, that line included: up to the next line that begins with the same word
    and is not indented more (the next `def`, the next `class`), or to the end."""
    scopes = []
    for at in range(start, end):
        if bare[at].strip() != header:
            continue
        depth, word = _indent(bare[at]), header.split()[0]
        stop = at + 1
        while stop < end and not (bare[stop].split()[:1] == [word] and _indent(bare[stop]) <= depth):
            stop += 1
        scopes.append((at, stop))
    return scopes


def _insertion(hunk: Hunk, bare: Sequence[str], scopes: Sequence[tuple[int, int]]) -> _Place:
    """Where a hunk without old lines goes: to the end, or right below its `@@` line."""
    if hunk.at_end or not bare:
        return _Place(len(bare), len(bare), hunk)
    if not hunk.below:
        raise ToolError(
            "it has only + lines: add lines that stay around them, `@@` with the line they follow, or `*** End of File`"
        )
    if len(scopes) > 1:
        numbers = ", ".join(str(start + 1) for start, _ in scopes[:10])
        raise ToolError(f"its `@@` line occurs {len(scopes)} times (lines {numbers}): add lines around the change")
    return _Place(scopes[0][0] + 1, scopes[0][0] + 1, hunk)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def make() -> FunctionTool:
    return tool(apply_patch, files.remembers)
