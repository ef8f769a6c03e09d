"""From the 1,797 handwritten digits (8x8 pixels, 0 to 16) that scikit-learn bundles, shuffled and perturbed.

Every image is moved sideways by up to one pixel (around the edge), is scaled in brightness by 0.4 to 1.6, loses a
tenth of its pixels, and gets noise of standard deviation 2.5; pixels are clipped and rounded to 0 to 16 again.
"""

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from trellis.benchmarks.mle.synthesis import deal

TEST_ROWS, SEED = 600, 20303


def prepare(raw, public, private):
    rng = np.random.default_rng(SEED)
    images, digit = load_digits(return_X_y=True)
    moves = rng.integers(-1, 2, len(images))
    images = np.stack(
        [np.roll(image, move, axis=1) for image, move in zip(images.reshape(-1, 8, 8), moves, strict=True)]
    )
    images = images * (0.4 + 1.2 * rng.random((len(images), 1, 1)))
    images = images * (rng.random(images.shape) > 0.1)
    images = np.clip(np.round(images + 2.5 * rng.standard_normal(images.shape)), 0, 16)

    pixels = images.reshape(-1, 64).astype(int)
    rows = pd.DataFrame(pixels, columns=[f"pixel_{row}_{column}" for row in range(8) for column in range(8)])
    rows["digit"] = digit
    deal(rows, target="digit", guess=0, test_rows=TEST_ROWS, seed=SEED, public=public, private=private)
