"""What `offline/tabular` does when it is asked for a script, whatever form the asking takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from trellis.models.offline.tabular_designs import Attempt, Design, draft, find_designs, improve, write_design
from trellis.models.offline.tabular_mistakes import make_mistake
from trellis.models.offline.tabular_reading import Reading
from trellis.models.offline.tabular_repairs import repair
from trellis.models.offline.tabular_script import CLASSES, write_script


@dataclass(frozen=True, slots=True)
class Coder:
    random: Random
    bug_rate: float
    folds: int

    def draft(self, reading: Reading, tried: Sequence[Attempt] = ()) -> tuple[str, str]:
        """A plan and a script of a new design."""
        design = draft(reading, tried, self.random)
        kind = CLASSES[str(design["model"])][reading.metric.kind == "value"]
        plan = (
            f"A first design with {kind}: missing numbers are imputed, categories encoded, and {self.folds}-fold "
            f"cross-validation measures {reading.metric.name}. The model is then fitted on all of the training data "
            f"and predicts the test set.\n{write_design(design)}"
        )
        return plan, self._write(design, reading)

    def improve(self, code: str, reading: Reading, tried: Sequence[Attempt] = ()) -> tuple[str, str]:
        """A plan and a script that differs in one thing from a given one."""
        base = design_of(code)
        if base is None:
            return self.draft(reading, tried)
        design, change = improve(base, reading, [*tried, Attempt(base)], self.random)
        plan = (
            f"One change of the previous solution: {change}. Everything else stays as it is, so that the change of the "
            f"validation {reading.metric.name} is its effect.\n{write_design(design)}"
        )
        return plan, self._write(design, reading)

    def repair(self, code: str, output: str, reading: Reading) -> tuple[str, str]:
        """A plan and a script without what the output complains of; a new and simple one where that is a riddle."""
        if mended := repair(code, output, reading):
            cause = mended.cause.splitlines()[0][:300] if mended.cause else "nothing was printed"
            plan = f"The run failed: {cause}. The script is corrected there, and the design stays the same."
            design = design_of(code)
            plan += f"\n{write_design(design)}" if design else ""
            return plan, self._slip(mended.code, reading)
        plan, script = self.draft(reading, [Attempt(base)] if (base := design_of(code)) else [])
        return f"The output does not tell what to correct, so here is another start. {plan}", script

    def _write(self, design: Design, reading: Reading) -> str:
        return self._slip(write_script(design, reading, self.folds), reading)

    def _slip(self, code: str, reading: Reading) -> str:
        while self.random.random() < self.bug_rate:
            code = make_mistake(code, reading, self.random)
        return code


def design_of(code: str) -> Design | None:
    """The design that a script of ours states in its first lines."""
    return next((design for _, design in find_designs(code)), None)
