"""What the agent is told."""

from __future__ import annotations

from trellis.benchmarks.swelancer.dataset import Issue

DECISION = "manager_decisions.json"

IC = """\
You are a freelance software engineer. The repository in your working folder has a bug; you are paid ${price:,.2f} if
you fix it, and nothing otherwise.

# {title}

{description}
# Rules

- Fix the cause in the code of the repository. What counts is what users see: after you have handed in, the application
  is started and tested end to end, through its HTTP interface and its page. You do not see these tests.
- The visible unit tests are run with `{test_command}`. They may all pass although the bug is there. You may add tests
  in new files; changes to existing tests and to the configuration of tests are undone before your work is judged.
- Leave the fix in the files of the working folder; committing is not needed. Leave no action items behind.
- There is no network. When you are done, hand in with the `submit` tool.
"""

MANAGER = """\
You are a software engineering manager. Your team maintains the repository in your working folder; freelancers have
made proposals for the issue below. Choose the one that you would have carried out. The issue is worth ${price:,.2f}.

# {title}

{description}
# Proposals

{proposals}

# Your decision

Read as much of the repository as you need. You do not have to run the application or to carry out a proposal. Write
your decision to the file `{decision}` in the working folder, as JSON with one key and the number of the proposal:

    {{"selected_proposal_id": <number>}}

Then hand in with the `submit` tool.
"""


def prompt(issue: Issue, test_command: str) -> str:
    template = MANAGER if issue.variant == "swe_manager" else IC
    return template.format(
        price=issue.price_usd,
        title=issue.title,
        description=issue.description,
        proposals=issue.proposals,
        decision=DECISION,
        test_command=test_command,
    )
