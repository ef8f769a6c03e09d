"""The command `trellis`. A command's module is imported when that command runs, so that help is instant."""

from __future__ import annotations

import importlib
import os
import sys

import click

from trellis.runs.errors import UsageError

COMMANDS = {
    "run": ("trellis.runs.commands_run:run", "Carry out an experiment: a benchmark with flags, or a file."),
    "resume": ("trellis.runs.commands_run:resume", "Finish a run that was interrupted, killed, or had faults."),
    "fork": ("trellis.runs.commands_fork:fork", "Go on from any step of an episode, changed or not."),
    "score": ("trellis.runs.commands_score:score", "Score a run again, from its stored submissions."),
    "replay": ("trellis.runs.commands_replay:replay", "Go through a trajectory again and say what is different."),
    "reprice": ("trellis.runs.commands_reprice:reprice", "Price a run's calls again, with other prices."),
    "view": ("trellis.runs.commands_view:view", "Look at runs and trajectories in a browser."),
    "show": ("trellis.runs.commands_show:show", "Show an episode, or one step of it, as text."),
    "diff": ("trellis.runs.commands_diff:diff", "Put trajectories side by side: where and how they part."),
    "compare": ("trellis.runs.commands_compare:compare", "Compare agents: of finished runs, or on a benchmark."),
    "verify": ("trellis.runs.commands_verify:verify", "Check a run or trajectory from end to end for any damage."),
    "pack": ("trellis.runs.commands_pack:pack", "Compress the trajectories of a finished run."),
    "unpack": ("trellis.runs.commands_pack:unpack", "Undo pack."),
    "import": ("trellis.runs.commands_import:import_", "Read a trajectory that another framework recorded."),
    "export": ("trellis.runs.commands_export:export", "Write trajectories in the formats of others."),
    "list": ("trellis.runs.commands_list:list_", "Show scaffolds, tools, models, benchmarks, tasks or runs."),
    "new": ("trellis.runs.commands_new:new", "Write a working scaffold, tool or benchmark, with its test."),
    "doctor": ("trellis.runs.commands_machine:doctor", "Say what this machine has, and what is missing for what."),
    "clean": ("trellis.runs.commands_machine:clean", "Remove what runs that died have left behind."),
}


class LazyGroup(click.Group):
    """Knows the names and one-line helps of its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trellis-agents", prog_name="trellis")
def trellis() -> None:
    """Agent scaffolds: develop them, compare them on fixed tasks, replay what they did."""


def main() -> None:
    """Exit status: 0 done, 1 an episode ended in a fault, 2 wrong usage, 130 interrupted."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run a command line and return its exit status; what the user did wrong is one line on standard error."""
    try:
        status = trellis.main(arguments, prog_name="trellis", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as help_:
        click.echo(help_.format_message())
        return 0
    except click.ClickException as error:
        return _wrong(error.format_message())
    except UsageError as error:
        return _wrong(str(error))
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more: no complaint at exit
        return 0


def _wrong(message: str) -> int:
    from trellis.runs.text import line

    print(f"trellis: {line(message, 2000)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
