"""Images built from a Dockerfile, by the engine, under a name that follows from all that goes into them."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trellis.environments.content import digest, tree_digest
from trellis.environments.docker.base_image import REPOSITORY as BASE_REPOSITORY
from trellis.environments.docker.base_image import base_image_name
from trellis.environments.docker.engine import client, find_image, scratch_folder
from trellis.environments.environment import EnvironmentFault, EnvironmentUnavailable, Resources
from trellis.environments.store import store_folder

BASE_ARGUMENT = "TRELLIS_BASE"
BUILDING = "trellis.building"
"""A label of everything that a build makes on its way."""
BUILD_TIMEOUT_S = 3600.0
SHOWN_CHARACTERS = 2000
_INSTRUCTION = re.compile(r"\s*(?:ONBUILD\s+)?([A-Z]+)\s+(.*)", re.DOTALL | re.IGNORECASE)
_CONTINUED = re.compile(r"\\[ \t]*(?:\n|\Z)")
_ESCAPE = re.compile(r"^\s*#\s*escape\s*=\s*[^\\\s]", re.MULTILINE | re.IGNORECASE)
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")
_STEERS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]", re.DOTALL)
"""What would act on a terminal instead of being shown."""
_MAY_FETCH = re.compile(r"://|git@|[$\\]", re.IGNORECASE)
"""In an ADD: an address, or what may turn out to be one."""


@dataclass(frozen=True, slots=True)
class Build:
    """A folder of the host and what to make of it."""

    context: str
    dockerfile: str = "Dockerfile"
    """Relative to the context."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    """A stage of the Dockerfile; empty means the last one."""

    @property
    def name(self) -> str:
        return str(Path(self.context, self.dockerfile))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Dockerfile that was read, and what it builds on."""

    build: Build
    text: str
    arguments: Mapping[str, str]
    context: tuple[str, ...]
    """What belongs to the context, relative to its folder."""
    ignored: tuple[str, ...]
    """The patterns of its .dockerignore."""
    bases: Mapping[str, str]
    """Images it builds on -> their ids, "" for one that is not here."""

    @property
    def content(self) -> str:
        """The hash of the context and the Dockerfile."""
        return digest(self.text, tree_digest(Path(self.build.context), self.context))

    def key(self, network: str) -> str:
        return digest(
            "dockerfile", 1, self.content, dict(self.arguments), self.build.target, dict(self.bases), network
        )[:32]


def read(build: Build, network: str) -> Recipe:
    """Read a Dockerfile and look at what it needs.

    Raises:
        EnvironmentFault: it cannot be read, or fetches something while there is no network.
        EnvironmentUnavailable: an image that it builds on is not here, and may not be fetched.
    """
    from docker.utils.build import exclude_paths

    folder = Path(build.context)
    if not folder.is_dir():
        raise EnvironmentFault(f"{folder}: expected a folder with a {build.dockerfile}")
    try:
        text = Path(build.name).read_text("utf-8-sig")
        ignoring = folder / ".dockerignore"
        lines = ignoring.read_text("utf-8").splitlines() if ignoring.exists() else ()
        ignored = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
        context = tuple(sorted(exclude_paths(str(folder), list(ignored), dockerfile=build.dockerfile)))
    except (OSError, UnicodeError) as error:
        raise EnvironmentFault(f"{build.name} cannot be read: {error}") from None
    if _ESCAPE.search(text):
        raise EnvironmentFault(f"{build.name}: its lines must be continued with \\, so no other escape character")
    given = {BASE_ARGUMENT: base_image_name()} if BASE_ARGUMENT in text else {}
    arguments = {**given, **build.arguments}
    bases = {image: _image_id(image) for image in _bases(text, arguments)}
    recipe = Recipe(build, text, arguments, context, ignored, bases)
    if network == "none":
        _check_sealed(recipe)
    return recipe


def make(recipe: Recipe, tag: str, labels: Mapping[str, str], network: str, resources: Resources) -> None:
    """Let the engine build it; progress goes to standard error. Blocks.

    Raises:
        EnvironmentFault: a step failed; the step and the end of its output are in the message.
    """
    from docker.errors import APIError
    from docker.utils.build import create_archive

    build = recipe.build
    marked = f".{BUILDING}.{labels[BUILDING]}"
    ours = {
        marked: _with_label(recipe.text, f"{BUILDING}={labels[BUILDING]}"),
        ".dockerignore": "\n".join((*(recipe.ignored or (".dockerignore",)), marked)),
    }
    step, output, failed = "", "", ""
    try:
        with tempfile.TemporaryFile(dir=scratch_folder()) as archive:
            create_archive(build.context, files=recipe.context, fileobj=archive, extra_files=list(ours.items()))
            memory = resources.memory_mb << 20
            events = client().build(
                fileobj=archive,
                custom_context=True,
                dockerfile=marked,
                tag=tag,
                labels=dict(labels),
                buildargs=dict(recipe.arguments),
                target=build.target or None,
                network_mode="default" if network == "full" else "none",
                container_limits={"memory": memory, "memswap": memory},
                # The engine's own cache could not help: the first step bears the key. And looking into it fails where
                # somebody removes any image on the same base meanwhile (image/cache in moby: "unable to find image").
                nocache=True,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=BUILD_TIMEOUT_S,
            )
            for event in events:
                failed = failed or _STEERS.sub(
                    "", event.get("error", "")
                )  # read on to the end: the connection can then be used again
                said = _STEERS.sub("", event.get("stream", ""))
                print(said, end="", file=sys.stderr, flush=True)
                if began := re.match(r"Step \d+/\d+ : (.*)", said, re.DOTALL):
                    step, output = began[1].strip(), ""
                elif not said.startswith((" ---> ", "Removing intermediate", "\n")):
                    output = (output + said)[-2 * SHOWN_CHARACTERS :]
        if failed:
            tail = f"; the end of its output: {output.strip()[-SHOWN_CHARACTERS:]}" if output.strip() else ""
            raise EnvironmentFault(f"{build.name}: {step or 'it'} failed: {failed.strip()}{tail}")
    except APIError as error:
        said = _as_in(str(error.explanation or error), ours[marked])
        raise EnvironmentFault(f"{build.name}: {said.strip()}") from None
    finally:
        _remove_remains(labels[BUILDING])


def stop(mark: str) -> None:
    """End the step at which a build with this mark is, so that it fails. Blocks."""
    from docker.errors import APIError

    for step in client().containers(filters={"label": f"{BUILDING}={mark}"}):
        with contextlib.suppress(APIError):  # it has ended
            client().kill(step["Id"])


def remains() -> list[tuple[str, str]]:
    """Images without a name that builds of this store made on their way, and the keys of those builds.

    Those of other stores, which may share the engine, are not known here: their locks say whether they still build.
    """
    keyed = [(image, mark.partition(".")[0], mark) for image, mark in _marked()]
    return [(image, key) for image, key, mark in keyed if mark == mark_of(key)]


def mark_of(key: str) -> str:
    """What the images of a build are marked with: its key, and the store that has its lock."""
    return f"{key}.{digest('store', str(store_folder()))[:12]}"


def _marked() -> list[tuple[str, str]]:
    found = client().images(all=True, filters={"dangling": True, "label": BUILDING})
    return [(image["Id"], image["Labels"][BUILDING]) for image in found]


def _remove_remains(mark: str) -> None:
    """What a failed build, and stages that are in no image, leave."""
    from docker.errors import APIError

    for image, its_mark in _marked():
        try:
            if its_mark == mark:
                client().remove_image(image)
        except APIError:
            continue  # a layer of the image that was built, or gone with one that was removed before


def _check_sealed(recipe: Recipe) -> None:
    """The engine itself, not the container, fetches images and what ADD names: those routes must be closed, too."""
    name = recipe.build.name
    for verb, rest in instructions(recipe.text):
        if verb == "ADD" and _MAY_FETCH.search(rest):
            raise EnvironmentFault(f'{name}: ADD {rest} may fetch it: set-up has no network (setup_network = "full")')
    for image, identity in recipe.bases.items():
        if "$" in image:
            raise EnvironmentFault(f"{name}: {image}: expected an image, or a variable that has a value before FROM")
        if not identity:
            raise EnvironmentUnavailable(f"{name}: the Docker image {image} is not here: docker pull {image}")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, those for later builds among them, with what follows them; continued lines are
    joined as the engine does it."""
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    content = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    for logical in _CONTINUED.sub("", content).split("\n"):
        if found := _INSTRUCTION.fullmatch(logical):
            yield found[1].upper(), found[2].strip()


def _bases(text: str, arguments: Mapping[str, str]) -> list[str]:
    """Images that the stages begin with or copy from. A variable that has no known value there stays as it is."""
    known: dict[str, str] = {}
    stages: list[str] = []
    found = []
    for verb, rest in instructions(text):
        words = [word for word in rest.split() if not word.startswith("--")]
        if verb == "ARG" and "=" in rest and not stages:
            name, _, value = rest.partition("=")
            known[name.strip()] = value.strip().strip("\"'")
        elif verb == "COPY":
            sources = [word.removeprefix("--from=") for word in rest.split() if word.startswith("--from=")]
            found += [source for source in sources if source.lower() not in stages and not source.isdecimal()]
        elif verb == "FROM" and words:
            values = {**known, **arguments}
            image = _VARIABLE.sub(lambda v, values=values: values.get(v[1] or v[2], v[0]), words[0])  # type: ignore[misc]
            if image != "scratch" and image.lower() not in stages:
                found.append(image)
            stages.append(words[2].lower() if len(words) == 3 else "")
    return list(dict.fromkeys(found))


def _image_id(image: str) -> str:
    try:
        return "" if "$" in image else str(find_image(image)["Id"])
    except EnvironmentUnavailable:
        return ""


def _with_label(text: str, label: str) -> str:
    """The same with a label in every stage, so that what a build leaves on its way can be found."""
    lines, in_from = [], False
    for line in text.splitlines():
        lines.append(line)
        in_from = in_from or bool(re.match(r"\s*FROM\s", line, re.IGNORECASE))
        if in_from and not line.rstrip().endswith("\\"):
            lines.append(f"LABEL {label}")
            in_from = False
    return "\n".join(lines) + "\n"


def _as_in(message: str, marked: str) -> str:
    """A complaint about a line of the marked Dockerfile, as one about the same line of the author's."""

    def author_s(number: re.Match[str]) -> str:
        ours = [line for line in marked.splitlines()[: int(number[1])] if line.startswith(f"LABEL {BUILDING}=")]
        return f"line {int(number[1]) - len(ours)}"

    return re.sub(r"\bline (\d+)", author_s, message)


def base_image(image: str) -> str:
    """`trellis-base` without a tag stands for the base image, whatever its recipe is today."""
    return base_image_name() if image in ("", BASE_REPOSITORY) else image
