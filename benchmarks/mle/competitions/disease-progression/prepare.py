"""Generated in the likeness of the diabetes study that scikit-learn bundles: age, sex, body mass, blood pressure
and six serum values of very different scales, and the progression of the disease a year later.

The serum values share two hidden factors. Progression is additive in a few of them, with a product of body mass
and blood pressure, a threshold in serum 5, a wave in serum 6, and noise of standard deviation 16.
"""

import numpy as np
import pandas as pd

from trellis.benchmarks.mle.synthesis import deal

ROWS, TEST_ROWS, SEED = 1000, 350, 20202


def prepare(raw, public, private):
    rng = np.random.default_rng(SEED)
    metabolic, lipid = rng.standard_normal(ROWS), rng.standard_normal(ROWS)
    own = rng.standard_normal((8, ROWS))
    age = np.clip(np.round(48 + 13 * rng.standard_normal(ROWS)), 19, 79)
    sex = rng.integers(1, 3, ROWS)
    body, pressure = 0.6 * metabolic + 0.8 * own[0], 0.4 * metabolic + 0.9 * own[1]
    s1, s2 = 0.8 * lipid + 0.6 * own[2], 0.9 * lipid + 0.45 * own[3]
    s3, s4 = -0.5 * lipid + 0.85 * own[4], 0.6 * lipid - 0.3 * metabolic + 0.75 * own[5]
    s5, s6 = 0.5 * metabolic + 0.85 * own[6], 0.4 * metabolic + 0.9 * own[7]

    progression = (
        150
        + 26 * body
        + 12 * pressure
        + 20 * body * pressure
        - 14 * s3
        + 10 * s2
        + np.where(s5 > 0.4, 45, 0)
        + 18 * np.sin(2.2 * s6)
        + np.where(sex == 2, -9, 9)
        + 0.25 * (age - 48)
        + 16 * rng.standard_normal(ROWS)
    )
    rows = pd.DataFrame(
        {
            "age": age.astype(int),
            "sex": sex,
            "bmi": np.round(26.4 + 4.4 * body, 1),
            "bp": np.round(94.6 + 13.8 * pressure, 1),
            "s1": np.round(189 + 34 * s1),
            "s2": np.round(115 + 30 * s2, 1),
            "s3": np.round(50 + 13 * s3, 1),
            "s4": np.round(4.1 + 1.3 * s4, 2),
            "s5": np.round(4.64 + 0.52 * s5, 3),
            "s6": np.round(91 + 11.5 * s6, 1),
            "progression": np.round(progression, 1),
        }
    )
    deal(rows, target="progression", guess=150.0, test_rows=TEST_ROWS, seed=SEED, public=public, private=private)
