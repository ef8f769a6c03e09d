"""Generated: appointments at a group of clinics, and whether the patient stayed away.

The chance of a no-show is logistic in the patient's own share of past no-shows (which no column states: it is the
ratio of two), the waiting time (saturating, and far weaker with a reminder), age (a valley at sixty), the distance
on days of bad weather, and an effect per clinic. Age is missing at random; the reminder is missing more often at
two of the clinics; the distance is missing more often where it is long.
"""

import numpy as np
import pandas as pd

from trellis.benchmarks.mle.synthesis import deal, drop_out, logistic

ROWS, TEST_ROWS, SEED = 1600, 500, 20101
CLINICS = np.array(["Ash", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Oak", "Yew"])
CLINIC_EFFECT = np.array([-0.9, -0.5, -0.2, 0.0, 0.1, 0.4, 0.7, 1.1])
DAYS = np.array(["Mon", "Tue", "Wed", "Thu", "Fri"])
REMINDERS = np.array(["none", "letter", "text"])


def prepare(raw, public, private):
    rng = np.random.default_rng(SEED)
    clinic = rng.integers(0, 8, ROWS)
    day = rng.integers(0, 5, ROWS)
    reminder = np.searchsorted([0.35, 0.6], rng.random(ROWS))
    age = np.clip(np.round(48 + 21 * rng.standard_normal(ROWS)), 1, 95)
    distance = np.round(np.exp(1.1 + 0.9 * rng.standard_normal(ROWS)), 1)
    wait = np.round(-18 * np.log(1 - rng.random(ROWS)))
    rain = np.round(np.clip(12 * rng.random(ROWS) - 5, 0, None), 1)
    habit = rng.random(ROWS) ** 2
    visits = rng.integers(1, 25, ROWS)
    missed = np.floor(visits * habit + rng.random(ROWS))

    share = missed / visits
    pull = (
        -2.6
        + 4.2 * share
        + np.where(reminder == 2, 0.5, 1.0) * 1.7 * np.log1p(wait) / 3
        + ((age - 60) / 30) ** 2
        + 0.09 * np.where(rain > 2, distance, 0)
        + 1.1 * CLINIC_EFFECT[clinic]
        + np.where(day == 4, 0.5, 0)
    )
    no_show = (rng.random(ROWS) < logistic(1.4 * pull - 2.2)).astype(int)

    rows = pd.DataFrame(
        {
            "clinic": CLINICS[clinic],
            "weekday": DAYS[day],
            "age": drop_out(age, rng.random(ROWS) < 0.12),
            "distance_km": drop_out(distance, rng.random(ROWS) < np.where(distance > 5, 0.3, 0.05)),
            "wait_days": wait,
            "rain_mm": rain,
            "reminder": drop_out(REMINDERS[reminder], rng.random(ROWS) < np.where(clinic < 2, 0.4, 0.05)),
            "past_visits": visits,
            "past_no_shows": missed.astype(int),
            "no_show": no_show,
        }
    )
    deal(rows, target="no_show", guess=0.5, test_rows=TEST_ROWS, seed=SEED, public=public, private=private)
