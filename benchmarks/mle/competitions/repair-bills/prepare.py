"""Generated: bills of a garage, from tens to tens of thousands.

The logarithm of a bill adds up the kind of work, the make (twelve, with effects that do not follow their names),
the age of the car (older cars get cheaper parts), the hours and whether they fall on a weekend, and for body work
the size of the dent; noise of 0.28 on the logarithm. Mileage follows age and is missing in a fifth of the rows.
"""

import numpy as np
import pandas as pd

from trellis.benchmarks.mle.synthesis import deal, drop_out

ROWS, TEST_ROWS, SEED = 1500, 500, 20505
MAKES = np.array([f"make_{letter}" for letter in "ABCDEFGHJKLM"])
MAKE_EFFECT = np.array([0.1, -0.5, 0.9, -0.2, 0.3, 1.3, -0.7, 0.0, -0.4, 0.6, -0.1, 0.2])
WORK = np.array(["service", "brakes", "body", "engine"])
WORK_EFFECT = np.array([0.0, 0.5, 0.4, 1.7])


def prepare(raw, public, private):
    rng = np.random.default_rng(SEED)
    make = np.minimum(rng.integers(0, 14, ROWS), 11)
    work = np.searchsorted([0.45, 0.7, 0.88], rng.random(ROWS))
    age = np.floor(18 * rng.random(ROWS) ** 1.4)
    mileage = np.round((age + 0.5) * 13000 * (0.5 + rng.random(ROWS)), -2)
    hours = np.round(0.5 + -1.6 * np.log(1 - rng.random(ROWS)), 1)
    weekend = (rng.random(ROWS) < 0.2).astype(int)
    dent = np.where(work == 2, np.round(5 + 60 * rng.random(ROWS)), 0)
    colour = rng.integers(0, 6, ROWS)

    log_bill = (
        3.6
        + WORK_EFFECT[work]
        + MAKE_EFFECT[make]
        + 0.95 * np.log(hours + 0.3) * np.where(weekend == 1, 1.35, 1.0)
        - 0.012 * (age - 7) ** 2 * np.where(work == 3, 1.0, 0.35)
        + 0.035 * dent
        + np.where(mileage > 120000, 0.45, 0)
        + 0.28 * rng.standard_normal(ROWS)
    )
    rows = pd.DataFrame(
        {
            "make": MAKES[make],
            "work": WORK[work],
            "car_age_years": age.astype(int),
            "mileage_km": drop_out(mileage, rng.random(ROWS) < 0.2),
            "hours": hours,
            "weekend": weekend,
            "dent_cm": dent.astype(int),
            "colour": np.array(["red", "blue", "grey", "black", "white", "green"])[colour],
            "bill": np.round(np.exp(log_bill), 2),
        }
    )
    deal(rows, target="bill", guess=200.0, test_rows=TEST_ROWS, seed=SEED, public=public, private=private)
