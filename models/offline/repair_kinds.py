"""How likely each kind of mutation is to be the fix, before and after reading a bug report.

Priors follow how often each fix pattern was counted in practice (ManySStuBs4J, Karampatsis and Sutton 2020,
arXiv:1905.13334: wrong identifiers, literals, operators and conditions lead), scaled down for operators that make many
mutants of one node. Cues are words, stemmed when used, with which users describe what such a bug does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trellis.models.offline.repair_source import words_of


@dataclass(frozen=True, slots=True)
class Kind:
    prior: float
    cues: frozenset[str]


def _kind(prior: float, cues: str = "") -> Kind:
    return Kind(prior, words_of(cues))


KINDS: Mapping[str, Kind] = {
    "boundary": _kind(
        1.0, "exactly limit least most inclusive boundary until same day equal border edge last within up reach"
    ),
    "comparison": _kind(0.5, "opposite wrong inverted instead everyone nobody only"),
    "arithmetic": _kind(0.5, "sum total balance amount negative wrong minus plus percent owed"),
    "rounding": _kind(0.5, "round cent rounding decimals precision penny half fraction truncated"),
    "logic": _kind(0.5, "either both all any together combine filter"),
    "drop condition": _kind(0.25, "missing ignored never not hidden"),
    "add condition": _kind(0.08, "still also deleted archived closed another someone other allowed permission private"),
    "negation": _kind(0.5, "opposite inverted never always instead"),
    "number": _kind(0.5, "one first last page extra off skip next count start"),
    "large number": _kind(0.1, "off limit most least"),
    "stated number": _kind(0.3, "limit after days minutes hours characters maximum minimum only"),
    "scale": _kind(0.2, "times hundred cents tenfold percent factor"),
    "truth": _kind(0.5, "default always never checked enabled disabled"),
    "off by one": _kind(0.5, "one first last page missing extra skip next twice repeated"),
    "shift": _kind(0.15, "one first last next previous before after month year day page"),
    "empty case": _kind(0.12, "empty none without no nothing new crash error 500 division missing blank wrong"),
    "slice": _kind(0.3, "first last recent oldest newest only"),
    "swapped arguments": _kind(0.4, "swapped reversed other wrong exchanged order mixed instead"),
    "wrong name": _kind(0.4, "wrong instead other"),
    "wrong attribute": _kind(0.3, "wrong instead other shows"),
    "wrong key": _kind(0.3, "wrong instead other shows column field"),
    "missing strip": _kind(0.25, "space spaces blank whitespace trailing leading trim paste tab"),
    "missing lower": _kind(0.25, "case capital upper lower uppercase lowercase letter capitalised mixed"),
    "conversion": _kind(0.12, "text number string alphabetical numeric 500 type error"),
    "clamp": _kind(0.12, "negative below zero minus"),
    "order": _kind(0.35, "order sort newest oldest first last reverse descending ascending top bottom"),
    "missing escape": _kind(0.3, "html script tag angle bracket injected ampersand escape character special markup"),
    "needless call": _kind(0.2, "cut rounded lowercase truncated lost precision"),
    "twin": _kind(0.4, "wrong instead"),
    "encoding": _kind(0.4, "encoding utf bom excel accent umlaut character unicode garbled hex byte dump ef bb"),
    "missing default": _kind(0.15, "empty missing none crash error 500 without left out blank absent"),
    "missing await": _kind(0.4, "coroutine never awaited"),
    "join": _kind(0.3, "missing without empty no disappear"),
    "distinct": _kind(0.2, "twice duplicate repeated double"),
    "format": _kind(0.4, "date month day shown format minutes zero display"),
    "missing guard": _kind(
        0.1, "empty none missing crash error 500 permission another someone anyone other allowed forbidden blank"
    ),
    "missing statement": _kind(0.05, "saved kept updated lost still remain stale refresh remembered stay"),
    "missing return": _kind(0.4, "nothing none empty null"),
    "wrong return": _kind(0.15, "wrong instead"),
    "jump": _kind(0.3, "first only rest others stops after"),
    "exception": _kind(0.2, "error 500 crash invalid traceback internal"),
    "needless statement": _kind(0.15, "should not anyway lost disappear twice duplicate removed"),
    "wrong indentation": _kind(0.2, "only first last every each"),
    "wrong order of statements": _kind(0.1, "before after order late early"),
}  # fmt: skip

CUE_GAIN = 0.8
"""What each cue word found in the report adds to a kind's prior, as a share of it; at most four count."""


def belief(kind: str, report: frozenset[str]) -> float:
    """How likely a kind is, given the words of the report (none: the prior)."""
    known = KINDS[kind]
    return known.prior * (1 + CUE_GAIN * min(4, len(known.cues & report)))
