"""Generated: a panel's grades, 1 to 6, of cheeses with nine measured properties.

A hidden quality adds a best ripeness (too young and too old are both worse), a balance of salt and acid (their
difference counts), fat, the logarithm of one of three very skewed aroma readings, and the dairy's style; noise of
0.55. The grades cut it unevenly, so the middle ones are common and the ends rare.
"""

import numpy as np
import pandas as pd

from trellis.benchmarks.mle.synthesis import deal

ROWS, TEST_ROWS, SEED = 1400, 500, 20606


def prepare(raw, public, private):
    rng = np.random.default_rng(SEED)
    style = rng.integers(0, 3, ROWS)
    weeks = np.round(2 + 60 * rng.random(ROWS), 1)
    salt = 1.8 + 0.5 * rng.standard_normal(ROWS)
    acid = 0.7 * salt + 0.35 * rng.standard_normal(ROWS)
    fat = 28 + 5 * rng.standard_normal(ROWS)
    moisture = 60 - 0.9 * fat + 3 * rng.standard_normal(ROWS)
    aroma = np.exp(0.5 + 1.2 * rng.standard_normal((3, ROWS)))

    quality = (
        -1.3 * ((weeks - np.array([18, 30, 44])[style]) / 16) ** 2
        - 2.2 * abs(acid - 0.7 * salt - 0.1)
        + 0.10 * (fat - 28)
        + 0.75 * np.log(aroma[1])
        + np.array([0.0, 0.5, 1.0])[style]
        + 0.55 * rng.standard_normal(ROWS)
    )
    grade = 1 + np.searchsorted([-4.2, -2.4, -1.0, 0.2, 1.2], quality)
    rows = pd.DataFrame(
        {
            "style": np.array(["fresh", "washed", "hard"])[style],
            "weeks": weeks,
            "salt": np.round(salt, 2),
            "acid": np.round(acid, 2),
            "fat": np.round(fat, 1),
            "moisture": np.round(moisture, 1),
            "aroma_1": np.round(aroma[0], 3),
            "aroma_2": np.round(aroma[1], 3),
            "aroma_3": np.round(aroma[2], 3),
            "grade": grade,
        }
    )
    deal(rows, target="grade", guess=4, test_rows=TEST_ROWS, seed=SEED, public=public, private=private)
